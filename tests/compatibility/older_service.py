"""A service of another version in the place of today's: on its ports, with its settings, on today's schema."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet

REFERENCE = "docs/reference/settings.md"


def settings_known_to(checkout: Path) -> set[str]:
    """Return the variables that a version has; of `…__PLANS__<NAME>__POOL` the part before the name."""
    text = (checkout / REFERENCE).read_text()
    return {name.partition("__<")[0] for name in re.findall(r"^\| `([A-Z0-9_<>]+)`", text, re.MULTILINE)}


def environment_of(checkout: Path, service: str, current: dict[str, str]) -> dict[str, str]:
    """Return the environment of today's process for the one of another checkout.

    A version refuses settings that it does not have, and its own chart would not write them.
    """
    prefix = f"{service.replace('-', '_').upper()}_"
    known = settings_known_to(checkout)
    kept = {
        name: value
        for name, value in current.items()
        if not name.startswith(prefix) or name in known or any(name.startswith(f"{one}__") for one in known)
    }
    sources = [*checkout.glob("libs/*/src"), checkout / "proto/gen", *checkout.glob("services/*/src")]
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, sources))}


@asynccontextmanager
async def replaced(fleet: Fleet, service: str, checkout: Path) -> AsyncIterator[OwnProcess]:
    """Run the other version of a service while the block runs; the fleet's supervisor starts today's again after it."""
    today = psutil.Process(fleet.pid_of(service))
    environment = environment_of(checkout, service, today.environ())
    module = service.replace("-", "_")
    places = places_of((module, "chassis", "values", "rpc"), environment)
    assert all(place.startswith(f"{checkout}/") for place in places), f"not the other version: {places}"
    supervisor = today.parent()
    assert supervisor is not None
    older = OwnProcess(f"older-{service}", module, environment, fleet.ports[f"{service}-ops"])
    supervisor.suspend()
    try:
        today.terminate()

        async def ended() -> bool:
            return today.status() == psutil.STATUS_ZOMBIE

        await wait_for(f"today's {service} has ended", 60, ended)
        async with running([older]):
            yield older
    finally:
        supervisor.resume()

    async def again() -> bool:
        return fleet.pid_of(service) not in {0, today.pid}

    await wait_for(f"today's {service} runs again", 120, again)


def places_of(packages: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the files from which a process with this environment imports packages."""
    code = f"import {', '.join(packages)}; print(*({', '.join(f'{one}.__file__' for one in packages)},), sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", code], env=dict(environment), capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.splitlines()
