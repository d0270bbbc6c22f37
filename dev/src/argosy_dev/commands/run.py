"""`run`: a command of a service, with the settings that the fleet gives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from argosy_dev.fleet import compose
from argosy_dev.keeper import environment_of
from argosy_dev.refusals import Refusal
from argosy_dev.services import SERVICES, Service
from argosy_dev.state import Home, read_pairs
from argosy_dev.supervisor import Wanted


def run(home: Home, words: Sequence[str]) -> int:
    """Run `python -m <service> …` where the caller is, with the owner's rights, and return its exit status.

    Raises a Refusal for a service that does not exist or was never started.
    """
    service = _service(words[0] if words else "")
    wanted = Wanted.read(home)
    if not wanted.generation or (service.schema and service.owner_dsn not in read_pairs(home.secrets)):
        raise Refusal(f"The fleet of {home.root} has never run {service.name}: run `make up` first.")
    parts = compose(home, wanted.yours).parts
    part = parts[service.migration if service.schema else service.name]  # migrations know the owner of a schema
    status = subprocess.run(
        [sys.executable, "-m", service.module, *words[1:]], env=environment_of(part.environment()), check=False
    ).returncode
    return status if status >= 0 else 128 - status  # ended by a signal, as a shell says it


def _service(name: str) -> Service:
    for service in SERVICES:
        if name == service.name:
            return service
    raise Refusal(
        f"There is no service {name!r}; say `run SERVICE COMMAND …` with one of "
        f"{', '.join(service.name for service in SERVICES)}."
    )
