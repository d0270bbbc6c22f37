"""How attempts are observed: the implementation needs metrics and traces, which runs must not import."""

from typing import Protocol

from chassis.errors import ArgosyError

from inference_worker.plans.model import Attempt, Candidate


class AttemptSpan(Protocol):
    """The telemetry of one attempt."""

    def finish(self, attempt: Attempt, error: ArgosyError | None) -> None:
        """Record how it ended. Called exactly once, in the task that started it."""


class AttemptObserver(Protocol):
    """Records attempts as metrics, traces and logs. Never raises."""

    def start(self, candidate: Candidate, number: int, account: str) -> AttemptSpan:
        """Record that a call begins; `account` is the id of its credential."""
        ...

    def passed_over(self, candidate: Candidate) -> None:
        """Record that the first candidate of a request was not called."""
