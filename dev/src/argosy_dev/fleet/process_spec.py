"""One part of the fleet, as the supervisor sees it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

Probe = Callable[[], Awaitable[bool]]


def nothing() -> None:
    """Prepare nothing."""


def no_variables() -> Mapping[str, str]:
    """Add nothing to the environment."""
    return {}


def never_missing() -> str | None:
    """Need nothing that setup installs."""
    return None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process of the fleet, or (without a probe) a step that runs once and ends.

    Commands and environments are asked for at each start, because some are known only when an earlier part is ready.
    """

    name: str
    command: Callable[[], Sequence[str]]
    """The program and its arguments."""
    probe: Probe | None = None
    """Says whether the part serves; a step has none and is done when it exits with 0."""
    needs: tuple[str, ...] = ()
    """Parts that must be ready before this one starts."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Where it listens, by the names of `.argosy/ports`."""
    environment: Callable[[], Mapping[str, str]] = no_variables
    prepare: Callable[[], None] = nothing
    """Blocking work before each start; runs in a thread and must be safe to repeat."""
    missing: Callable[[], str | None] = never_missing
    """Names what setup has not installed, or None."""
    stop: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    """How long it may take to stop before it is killed."""
    start_seconds: float = 60.0
    """How long it may take to become ready before the start counts as failed."""
    shown: bool = True
    """Whether `status` has a line for it."""

    @property
    def runs_once(self) -> bool:
        """Say whether this is a step rather than a process that stays."""
        return self.probe is None

    def without(self, gone: AbstractSet[str]) -> Part:
        """Return this part with no need of what somebody else runs."""
        return replace(self, needs=tuple(need for need in self.needs if need not in gone))
