"""Wires the commands `apply` and `export`."""

from typing import Any

from chassis.clock import SystemClock
from chassis.lifecycle import Command
from chassis.tenancy import PrincipalSigner

from gateway.declaration.cli import APPLY_HELP, EXPORT_HELP, add_apply_arguments, run_apply, run_export


def declaration_commands() -> dict[str, Command[Any]]:
    """Make the commands; their settings are the gateway's."""
    return {
        "apply": Command(
            APPLY_HELP,
            lambda settings, arguments: run_apply(
                settings.peers.orchestrator, settings.peers.metering, _signer(settings), arguments
            ),
            add_apply_arguments,
        ),
        "export": Command(
            EXPORT_HELP,
            lambda settings, _: run_export(settings.peers.orchestrator, settings.peers.metering, _signer(settings)),
        ),
    }


def _signer(settings: Any) -> PrincipalSigner:
    return PrincipalSigner(settings.principal.secrets[0].get_secret_value(), "gateway", SystemClock())
