"""The providers: what each job's calls do, and a journal of all calls that were made."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from chassis.errors import ArgosyError, Kind, RemoteError
from orchestrator.jobs.model import RunRef


class Poisoned(Exception):
    """The answer kills the process that reads it."""


class Behaviour(StrEnum):
    """What becomes of the calls of a job."""

    FAST = "fast"
    SLOW = "slow"
    FLAKY = "flaky"
    """The first runs fail."""
    FALLBACK = "fallback"
    """The first candidate fails, the second answers."""
    DOWN = "down"
    BAD = "bad"
    POISON = "poison"


FLAKY_RUNS = 2
UNAVAILABLE = RemoteError(Kind.UPSTREAM, "UPSTREAM_ERROR", "the provider failed")
INVALID = RemoteError(Kind.INVALID, "INVALID_REQUEST", "the provider refuses the request")


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """A call that a provider has received."""

    run: RunRef
    number: int
    seconds: float
    error: ArgosyError | None = None
    fallback: bool = False
    """Whether another candidate may answer."""
    poison: bool = False
    input_tokens: int = 7
    output_tokens: int = 3


@dataclass(slots=True)
class Provider:
    rng: random.Random
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    """By job id."""
    journal: list[ProviderCall] = field(default_factory=list)
    _runs: Counter[str] = field(default_factory=Counter)

    def call(self, run: RunRef, number: int) -> ProviderCall:
        """Receive a call, and put it into the journal."""
        behaviour = self.behaviours[run.job_id]
        self._runs[run.job_id] += number == 1
        error: ArgosyError | None = None
        flaky = behaviour is Behaviour.FLAKY and self._runs[run.job_id] <= FLAKY_RUNS
        if behaviour is Behaviour.DOWN or flaky or (behaviour is Behaviour.FALLBACK and number == 1):
            error = UNAVAILABLE
        elif behaviour is Behaviour.BAD:
            error = INVALID
        slow = behaviour is Behaviour.SLOW
        made = ProviderCall(
            run,
            number,
            self.rng.uniform(20, 120) if slow else self.rng.uniform(0.1, 3),
            error,
            fallback=error is UNAVAILABLE,
            poison=behaviour is Behaviour.POISON,
        )
        self.journal.append(made)
        return made
