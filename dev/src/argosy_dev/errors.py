"""Errors that a command prints as one sentence, without a traceback.

CliError
├── NotInstalled     `make setup` has not installed something
├── PortTaken        another process listens on the port of a part
├── DiskFull         too little free space to start safely
├── StartFailed      a part did not become ready
└── FleetConflict    the running fleet was started with other settings
"""


class CliError(Exception):
    """The process prints the message and exits with `exit_status`."""

    exit_status = 1


class NotInstalled(CliError):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is missing: run `make setup` first.")


class PortTaken(CliError):
    pass


class DiskFull(CliError):
    pass


class StartFailed(CliError):
    """The message names the part, the reason and the log file."""


class FleetConflict(CliError):
    pass
