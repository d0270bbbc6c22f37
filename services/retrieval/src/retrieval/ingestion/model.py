"""Ingestion turns an attached file into chunks with vectors and keywords."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from chassis.tenancy import Principal

from retrieval.chunking.splitter import OWN_CHUNKING, Chunk, Chunking
from retrieval.embeddings.model import FIRST_SPACE, EmbeddingSpace, Vector
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


class SpacesChanged(Exception):
    """The store has changed to another embedding model: embed for these spaces, and try again."""

    def __init__(self, space: EmbeddingSpace, next_space: EmbeddingSpace | None) -> None:
        super().__init__()
        self.space = space
        self.next_space = next_space


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ingest a file, for a lease that each batch extends.

    `chunks` are stored already. `crashes` and `retries` count since the last stored batch, without this claim.
    `space` is that of the store, and `next_space` the one to which it is being migrated.
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
    space: EmbeddingSpace = FIRST_SPACE
    next_space: EmbeddingSpace | None = None


@dataclass(frozen=True, slots=True)
class TextVector:
    """The vector of a text; `fingerprint` is equal for equal texts of one model."""

    fingerprint: bytes
    vector: Vector


@dataclass(frozen=True, slots=True)
class EmbeddedChunk:
    """A chunk with its vector in the claim's space; `fingerprint` is equal for equal texts.

    `following` is the vector in the claim's next space; None where that model did not answer.
    """

    chunk: Chunk
    fingerprint: bytes
    vector: Vector
    following: TextVector | None = None


def vectors_by_space(claim: Claim, batch: Sequence[EmbeddedChunk]) -> dict[int, list[TextVector | None]]:
    """The vectors of a batch that was embedded for the claim, by the number of their space."""
    vectors: dict[int, list[TextVector | None]] = {}
    if claim.next_space is not None:
        vectors[claim.next_space.number] = [item.following for item in batch]
    vectors[claim.space.number] = [TextVector(item.fingerprint, item.vector) for item in batch]
    return vectors


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
