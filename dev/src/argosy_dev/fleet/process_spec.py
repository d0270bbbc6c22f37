"""The specification of one process of the fleet."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Self

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """A long-running process, or (without a probe) a step that runs once and exits.

    `command` and `environment` are called at each start, because some values exist only after an earlier part is ready.
    """

    name: str
    command: Callable[[], Sequence[str]]
    """The program and its arguments."""
    probe: Probe | None = None
    """Returns whether the process is ready. A step has no probe and is done when it exits with 0."""
    alive: Probe | None = None
    """Returns whether the process still answers, ready or not; `probe` when unset."""
    hang_seconds: float = 30.0
    """A process that was ready and then has not answered for this long hangs, and is restarted."""
    needs: tuple[str, ...] = ()
    """Parts that must be ready before this one starts."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The ports it listens on, by their names in `.argosy/ports`."""
    environment: Callable[[], Mapping[str, str]] = dict
    """Variables in addition to those of the supervisor."""
    prepare: Callable[[], None] = lambda: None
    """Blocking work before each start; runs in a thread and must be idempotent."""
    missing: Callable[[], str | None] = lambda: None
    """The name of what setup has not installed, or None."""
    stop: signal.Signals = signal.SIGTERM
    """The signal that asks the process to stop."""
    grace_seconds: float = 10.0
    """Time to stop before the process is killed."""
    start_seconds: float = 60.0
    """Time to become ready before the start counts as failed."""
    shown: bool = True
    """Whether `status` prints a line for it."""

    @property
    def runs_once(self) -> bool:
        return self.probe is None

    def without(self, parts: AbstractSet[str]) -> Self:
        """Return a copy that does not depend on `parts`."""
        return replace(self, needs=tuple(need for need in self.needs if need not in parts))
