"""A job to submit, what happens to one, and the header that turns a request into one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, get_args

JobState = Literal["queued", "dispatched", "running", "succeeded", "failed", "cancelled", "quarantined"]
UnfinishedJobState = Literal["queued", "dispatched", "running", "quarantined"]
JobLane = Literal["interactive", "standard", "batch"]
JobEndpoint = Literal["/v1/chat/completions", "/v1/embeddings"]
LANES: Final = frozenset[str](get_args(JobLane))

MAX_LABELS, MAX_LABEL_CHARACTERS, MAX_LABEL_VALUE_CHARACTERS = 16, 64, 512
MAX_DEADLINE_SECONDS = 7 * 24 * 3600

RESPOND_ASYNC: Final = "respond-async"

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
    unquoted = _QUOTED.sub(lambda quoted: "" if quoted[0] == '""' else "quoted", prefer)
    for preference in unquoted.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == RESPOND_ASYNC and not value.strip():
            return True
    return False
