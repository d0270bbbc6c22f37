"""Batches: their states, their lines, and what is refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from chassis.errors import ArgosyError, Kind
from chassis.tenancy import Principal

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/embeddings"})
COMPLETION_WINDOWS = {"24h": timedelta(hours=24)}
INPUT_PURPOSE = "batch"
OUTPUT_PURPOSE = "batch_output"
MAX_LISTED_ERRORS = 20
"""Errors of lines that a batch names itself; its error file has all of them."""
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}", re.ASCII)


class BatchState(StrEnum):
    """OpenAI's names."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({BatchState.FAILED, BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED})


class BatchNotFound(ArgosyError):
    """The tenant has no batch with this id."""

    kind, reason = Kind.NOT_FOUND, "BATCH_NOT_FOUND"


class BatchFinished(ArgosyError):
    """The batch is final already, and cannot be cancelled any more."""

    kind, reason = Kind.CONFLICT, "BATCH_FINISHED"


class BatchIdReused(ArgosyError):
    """This batch id belongs to a batch of another file or endpoint; a repeat must be the same."""

    kind, reason = Kind.CONFLICT, "BATCH_ID_REUSED"


class BatchLimitReached(ArgosyError):
    """The tenant has as many unfinished batches as it may have; wait until one is finished."""

    kind, reason = Kind.THROTTLED, "BATCH_LIMIT_REACHED"


class BatchFileInvalid(ArgosyError):
    """The file of a batch cannot be run: it is empty, too large, or none of its lines is a request."""

    kind, reason = Kind.INVALID, "BATCH_FILE_INVALID"


class BatchLineInvalid(ArgosyError):
    """A line of a batch's file is no request: it is no JSON object, or a field of it is missing or wrong."""

    kind, reason = Kind.INVALID, "BATCH_LINE_INVALID"


class DuplicateCustomId(ArgosyError):
    """Another line of the batch's file has this `custom_id`; the first of them is run."""

    kind, reason = Kind.INVALID, "DUPLICATE_CUSTOM_ID"


class BatchLeaseLost(ArgosyError, public=False):
    """Another process has claimed the batch since: stop, and write nothing."""

    kind, reason = Kind.CONFLICT, "BATCH_LEASE_LOST"


class BatchExpired(ArgosyError):
    """The request had no answer within the completion window of its batch."""

    kind, reason = Kind.TIMED_OUT, "BATCH_EXPIRED"


class BatchCancelled(ArgosyError):
    """The batch was cancelled before this request had an answer."""

    kind, reason = Kind.CANCELLED, "BATCH_CANCELLED"


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch as its client asks for it."""

    batch_id: str
    endpoint: str
    input_file_id: str
    completion_window: str = "24h"
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LineError:
    """A line that is not run. Line 0 is the file as a whole."""

    line: int
    error: ArgosyError
    custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is stored. `completed` and `failed` count its requests, with those that never became jobs."""

    principal: Principal
    batch_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: Mapping[str, str]
    state: BatchState
    total: int
    lines_read: int
    """Lines of the file that are jobs or errors already."""
    submitted: bool
    """Whether all of them are."""
    completed: int
    failed: int
    output_file_id: str
    error_file_id: str
    errors: tuple[LineError, ...]
    created_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    finished_at: datetime | None
    cancelling_at: datetime | None
    expires_at: datetime
    overdue: bool = False
    """Whether its window has ended, by the database's clock."""
    crashes: int = 0

    @property
    def tenant_id(self) -> str:
        return self.principal.tenant_id


class Line(NamedTuple):
    """A line of the file: a request, or the reason why it is none."""

    number: int
    """From 1, blank lines included."""
    custom_id: str | None
    body: bytes = b""
    error: ArgosyError | None = None


def line_job_id(batch_id: str, line: int) -> str:
    """Return the id of a line's job: the same however often the line is submitted, and in the order of the lines.

    It is a UUIDv7 of the batch's millisecond, with the line in front of the random bits.
    """
    milliseconds = int(batch_id.removeprefix("batch_")[:12], 16)
    unique = int.from_bytes(blake2b(batch_id.encode(), digest_size=8).digest()) & ((1 << 42) - 1)
    number = (milliseconds << 80) | (0x7 << 76) | ((line >> 20 & 0xFFF) << 64) | (0b10 << 62)
    return f"job_{number | ((line & 0xFFFFF) << 42) | unique:032x}"


def output_file_id(batch_id: str, kind: str) -> str:
    """Return the id of a file that the batch writes: the same when it is written again after a crash."""
    suffix = blake2b(f"{batch_id} {kind}".encode(), digest_size=10).hexdigest()
    return f"file-{batch_id.removeprefix('batch_')[:12]}{suffix}"
