"""Ingestion turns an attached file into chunks with vectors and keywords."""

from dataclasses import dataclass
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from chassis.tenancy import Principal

from retrieval.chunking.splitter import OWN_CHUNKING, Chunk, Chunking
from retrieval.embeddings.model import Vector
from retrieval.vector_stores.model import AttachmentKey

FILE_INDEXED_TOPIC = "argosy.retrieval.file-indexed.v1"
# Chunks whose keywords are indexed by one transaction.
KEYWORD_BATCH_SIZE = 1_000

_TRANSIENT_KINDS = {
    Kind.UNAVAILABLE,
    Kind.TIMED_OUT,
    Kind.THROTTLED,
    Kind.CANCELLED,
    Kind.INTERNAL,
    Kind.UNAUTHENTICATED,
}
# Errors of providers have one kind, whether a retry can succeed or not.
_TRANSIENT_UPSTREAM_REASONS = {
    "UPSTREAM_RATE_LIMITED",
    "UPSTREAM_FAILED",
    "UPSTREAM_ACCOUNT_UNAVAILABLE",
    "UPSTREAM_TIMED_OUT",
    "UPSTREAM_INVALID_RESPONSE",
    "UPSTREAM_INTERRUPTED",
}


class ClaimLost(Exception):
    """The attachment was deleted, or another process has claimed it: stop, and write nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ingest a file, for a lease that each batch extends.

    `chunks` are stored already. `crashes` and `retries` count since the last stored batch, without this claim.
    """

    key: AttachmentKey
    attachment: int
    epoch: int
    chunks: int
    crashes: int
    retries: int
    principal: Principal
    filename: str
    size_bytes: int
    chunking: Chunking = OWN_CHUNKING


@dataclass(frozen=True, slots=True)
class EmbeddedChunk:
    """A chunk with its vector; `fingerprint` is equal for equal texts."""

    chunk: Chunk
    fingerprint: bytes
    vector: Vector


class RunResult(StrEnum):
    """How a run over one file ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    POSTPONED = "postponed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A finished run, for logs and metrics; `reason` when failed or postponed."""

    result: RunResult
    reason: str = ""
    chunks: int = 0
    reused: int = 0


def is_transient(error: ArgosyError) -> bool:
    """Whether the same call may succeed later."""
    if error.kind is Kind.UPSTREAM:
        return error.reason in _TRANSIENT_UPSTREAM_REASONS
    return error.kind in _TRANSIENT_KINDS
