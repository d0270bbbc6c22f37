"""Chat completions: the request, its parsed body, and the events of the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from chassis.errors import ArgosyError, Kind
from chassis.tenancy import Principal
from values.money import NanoUsd
from values.usage import CacheOutcome, TokenUsage

from orchestrator.context.model import Document, RetrievalOptions, Source
from orchestrator.response_cache.model import CacheControl
from orchestrator.workers.model import Chunk


class RequestTooLarge(ArgosyError):
    """The request, with its context and for all its candidates, is more than can be sent to a worker."""

    kind, reason = Kind.TOO_LARGE, "REQUEST_TOO_LARGE"


class Stopped(ArgosyError):
    """The client disconnected before a worker had its request."""

    kind, reason = Kind.CANCELLED, "STOPPED"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion to answer. Without a `timeout` it gets the default deadline."""

    request_id: str
    principal: Principal
    model: str
    body: bytes
    stream: bool
    timeout: timedelta | None = None
    flags: dict[str, str] = field(default_factory=dict)
    """The feature flags that were evaluated for it: key to variant. `prepare` fills it."""
    cache: CacheControl | None = None
    """From headers; what the body says goes before."""


class ParsedChat(NamedTuple):
    """A client's document without our extension and without its output limits, which stand beside it."""

    document: Document
    output_limit: int | None
    answers: int
    retrieval: RetrievalOptions | None
    special_fields: tuple[str, ...] = ()
    """Fields that not every candidate gets."""
    tags: Mapping[str, str] = {}
    """The texts of `argosy.metadata`; a route's conditions may name them."""
    cache: CacheControl | None = None


class Started(NamedTuple):
    """The answer starts."""

    sources: Sequence[Source]
    soft_limit_passed: bool
    warnings: Sequence[str] = ()
    """What was dropped from the request, a sentence each."""
    cache: CacheOutcome | None = None
    """What the response cache did; None when it was not asked."""
    cache_age_seconds: int = 0


class Finished(NamedTuple):
    """The answer is over and its usage recorded; with an error it is incomplete."""

    usage: TokenUsage
    """Over all attempts."""
    cost: NanoUsd
    error: ArgosyError | None = None
    usage_payload: bytes = b""
    warnings: Sequence[str] = ()
    """What was left out of the request for the provider that answered, a sentence each."""


ChatEvent = Started | Chunk | Finished
