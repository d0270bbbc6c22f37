"""A job to submit, what happens to one, and the header that turns a request into one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, get_args

from chassis.errors import InvalidRequest

JobState = Literal["queued", "dispatched", "running", "succeeded", "failed", "cancelled", "quarantined"]
UnfinishedJobState = Literal["queued", "dispatched", "running", "quarantined"]
FINAL_STATES: Final = frozenset({"succeeded", "failed", "cancelled"})
JobLane = Literal["interactive", "standard", "batch"]
JobEndpoint = Literal["/v1/chat/completions", "/v1/embeddings"]
LANES: Final = frozenset[str](get_args(JobLane))

MAX_LABELS, MAX_LABEL_CHARACTERS, MAX_LABEL_VALUE_CHARACTERS = 16, 64, 512
MAX_DEADLINE_SECONDS = 7 * 24 * 3600

RESPOND_ASYNC: Final = "respond-async"
MAX_WAIT_DIGITS: Final = 9
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)

# One without an end goes on to the end of the header: else each quotation mark would be tried anew, and a header of
# many take time by the square of their number, on the event loop.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class JobSubmission:
    """A job to submit; `body` is the client's own JSON. Without a lane it gets that of the tenant's plan."""

    job_id: str
    endpoint: str
    body: bytes
    lane: str = ""
    metadata: Mapping[str, str] | None = None
    deadline: timedelta | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list has; an empty field has all."""

    state: str = ""
    endpoint: str = ""
    model: str = ""


def prefers_async(prefer: str) -> bool:
    """Whether the value of a header `Prefer` has the preference `respond-async` (RFC 7240).

    Values and parameters may be quoted, and then contain commas. `respond-async` has no value; an empty one is none.
    """
    return any(name == RESPOND_ASYNC and not value for name, value in _preferences(prefer))


def preferred_wait_seconds(prefer: str) -> int:
    """Return the preference `wait` (RFC 7240), in seconds; 0 without one, or with one that is no whole number.

    Of several, the first counts.
    """
    value = next((value for name, value in _preferences(prefer) if name == "wait"), "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= MAX_WAIT_DIGITS else 0


def _preferences(prefer: str) -> Iterator[tuple[str, str]]:
    unquoted = _QUOTED.sub(lambda quoted: "" if quoted[0] == '""' else "quoted", prefer)
    for preference in unquoted.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip()


def read_idempotency_key(value: str) -> str:
    """Return the key of a header `Idempotency-Key`: a quoted string, as its draft has it, or as most clients send it.

    Raises `InvalidRequest`.
    """
    key = value.strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise InvalidRequest("Idempotency-Key must be 1 to 255 visible characters.", param="idempotency-key")
    return key
