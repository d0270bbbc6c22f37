"""`run`: any command of a service, with the settings of this fleet."""

import subprocess
import sys
from collections.abc import Sequence

from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from argosy_dev.fleet.process import process_environment
from argosy_dev.fleet.supervisor import DesiredState
from argosy_dev.parts.build import build_fleet
from argosy_dev.parts.replicas import SERVICES, Service


def run(paths: FleetPaths, words: Sequence[str]) -> int:
    """Run `python -m <service> …` in the current folder, as the schema's owner, and return its exit status.

    Raises CliError for an unknown service and for one that never ran.
    """
    service = _service(words[0] if words else "")
    desired = DesiredState.read(paths)
    if not desired.generation or (service.schema and service.owner_dsn not in read_pairs(paths.secrets)):
        raise CliError(f"The fleet of {paths.root} has never run {service.name}: run `make up` first.")
    specs = build_fleet(paths, desired.overrides).specs
    # The settings of the migration also have the address for the owner role.
    spec = specs[service.migration if service.schema else service.name]
    status = subprocess.run(
        [sys.executable, "-m", service.module, *words[1:]], env=process_environment(spec.environment()), check=False
    ).returncode
    return status if status >= 0 else 128 - status  # after a signal, the same status as in a shell


def _service(name: str) -> Service:
    for service in SERVICES:
        if name == service.name:
            return service
    raise CliError(
        f"There is no service {name!r}; use `run SERVICE COMMAND …` with one of "
        f"{', '.join(service.name for service in SERVICES)}."
    )
