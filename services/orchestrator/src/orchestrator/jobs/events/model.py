"""Events of a job: changes of its state, and pieces of its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.errors import ArgosyError, Kind

from orchestrator.jobs.model import Job

FINAL_EVENT_ID: Final = "final"
"""Of a job's last event, whether the log has it or not."""


class EventIdUnknown(ArgosyError):
    """The job has no event of this id, or keeps it no longer; follow the job from the beginning."""

    kind, reason = Kind.EXPIRED, "EVENT_ID_UNKNOWN"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A job as it stands. Without an id it comes from the store, and nobody resumes after it."""

    event_id: str
    job: Job


@dataclass(frozen=True, slots=True)
class Delta:
    """Chunks of an answer, JSON documents. A run with a higher epoch starts the answer anew."""

    event_id: str
    run: int
    payloads: Sequence[bytes]


JobEvent = StateChanged | Delta


_MAX_PART: Final = 2**64 - 1
"""Redis refuses more, and with one such id a read of all streams at once."""


def is_event_id(text: str) -> bool:
    """Whether a text can be the id of an event in the log: milliseconds and a number, `1700000000000-0`."""
    milliseconds, dash, number = text.partition("-")
    return bool(dash) and all(
        part.isascii() and part.isdigit() and len(part) <= 20 and int(part) <= _MAX_PART
        for part in (milliseconds, number)
    )
