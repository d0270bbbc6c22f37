"""What the fleet says when it cannot do what it was asked: one clear sentence each.

Refusal
├── Missing          something that `make setup` installs is not there
├── PortTaken        somebody else listens where a part should
├── DiskFull         too little room to start safely
├── NotStarted       a part did not become ready
└── Conflict         the running fleet was started differently
"""

from __future__ import annotations


class Refusal(Exception):
    """A reason for people, printed without a traceback; the process then exits with `status`."""

    status = 1


class Missing(Refusal):
    """Something that `make setup` installs is not there."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is missing: run `make setup` first.")


class PortTaken(Refusal):
    """Somebody else listens on a port that `.argosy/ports` gives to a part."""


class DiskFull(Refusal):
    """The file system that holds the state has too little room."""


class NotStarted(Refusal):
    """A part did not become ready; the message says which, why and where its log is."""


class Conflict(Refusal):
    """The running fleet was started with other settings than the ones asked for now."""
