"""Embeds texts by one provider call."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest
from values.embeddings import EmbeddingInput
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource

from inference_worker.breakers.circuits import Circuits
from inference_worker.embeddings.token_ids import LoadTokenBytes, decode_token_ids
from inference_worker.plans.attempt import IMPATIENT_SECONDS
from inference_worker.plans.choose import Call, Choice, RetryPolicy
from inference_worker.plans.model import Attempt, AttemptOutcome, Candidate
from inference_worker.plans.outcome import about_own_credential, record_failure
from inference_worker.plans.ports import AttemptObserver
from inference_worker.plans.record import failed_outcome
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import Embeddings, UpstreamFailed, UpstreamTimedOut, VectorsTooLarge
from inference_worker.providers.ports import Upstream, Upstreams
from inference_worker.providers.unavailable import EMBEDDINGS_UNSUPPORTED
from inference_worker.token_counting.model import TokenCounter


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed or their token ids, and by what."""

    candidate: Candidate
    inputs: tuple[EmbeddingInput, ...]
    deadline: timedelta
    dimensions: int | None = None
    """None is the model's own number."""
    refuse_truncation: bool = False
    """Whether an input that is longer than the model reads is an error. Else the model reads the beginning of it."""


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """Vectors in the order of the inputs, or the error; and the record of the attempt."""

    vectors: tuple[bytes, ...]
    attempt: Attempt
    error: ArgosyError | None


class EmbedRun:
    """One run of a request. When it is cancelled it aborts the upstream call, and the record of the attempt is lost."""

    def __init__(
        self,
        request: EmbedRequest,
        *,
        upstreams: Upstreams,
        clock: Clock,
        observer: AttemptObserver,
        load_token_bytes: LoadTokenBytes,
        circuits: Circuits | None = None,
    ) -> None:
        self._request = request
        self._choice = Choice(
            (request.candidate,), upstreams, circuits or Circuits(), clock.monotonic, policy=RetryPolicy()
        )
        self._clock = clock
        self._observer = observer
        self._load_token_bytes = load_token_bytes
        self._sent: Sequence[EmbeddingInput] = request.inputs
        """What the provider gets: the texts of token ids if it does not take those."""
        self._called = False
        """Whether the provider was called: before it nothing tells anything of the upstream."""
        self._is_late = False
        self._deadline = asyncio.get_running_loop().time() + request.deadline.total_seconds()

    async def run(self) -> EmbedResult:
        """Make the provider call, and record it and its error even when it is cancelled."""
        candidate = self._request.candidate
        call = self._choice.first()
        if call is None:
            self._observer.passed_over(candidate)
            passed_over = Attempt(1, 0, AttemptOutcome.PASSED_OVER, NO_USAGE, None, timedelta(0))
            return EmbedResult((), passed_over, self._choice.refusal())
        span = self._observer.start(candidate, 1, call.credential_id)
        started_at = self._clock.monotonic()
        embeddings: Embeddings | None = None
        error: ArgosyError | None = None
        outcome, usage, cause = AttemptOutcome.CANCELLED, UNKNOWN_USAGE, ExposureCause.FLEET
        try:
            embeddings = await self._embed(call.upstream, call.credential)
            call.circuit.succeeded(self._clock.monotonic(), call.ticket)
            cause = ExposureCause.PROVIDER
            outcome, usage = AttemptOutcome.SUCCEEDED, await self._usage(embeddings, call.upstream.counter)
        except UpstreamFailed as failed:
            outcome, error = failed_outcome(failed), failed
            cause = ExposureCause.FLEET if isinstance(failed, VectorsTooLarge) else ExposureCause.PROVIDER
            usage = failed.usage or (UNKNOWN_USAGE if failed.maybe_billed else NO_USAGE)
            self._record_failure(call, failed, self._clock.monotonic() - started_at)
            # Another credential may answer at once: the caller asks again, and gets it.
            failed.retry_same = failed.retry_same or self._choice.has_other_account(failed)
            error = about_own_credential(failed) if call.own_credential else failed
        except InvalidRequest as refused:
            # Nothing was sent, so this tells nothing of the upstream.
            outcome, usage, error = AttemptOutcome.REJECTED, NO_USAGE, refused
            call.circuit.abandoned(call.ticket)
        finally:
            if embeddings is None and error is None:
                call.circuit.abandoned(call.ticket)
            duration = timedelta(seconds=self._clock.monotonic() - started_at)
            first_byte_after = duration if embeddings else None
            unknown = cause if usage.known is None else None
            attempt = Attempt(1, 0, outcome, usage, first_byte_after, duration, unknown)
            span.finish(attempt, error)
        return EmbedResult(embeddings.vectors if embeddings else (), attempt, error)

    async def _embed(self, upstream: Upstream, credential: Credential | None) -> Embeddings:
        request, embedder = self._request, upstream.embedder or EMBEDDINGS_UNSUPPORTED
        try:
            async with asyncio.timeout_at(self._deadline):
                model, dimensions, token_ids = request.candidate.model, request.dimensions, token_ids_in(request.inputs)
                if token_ids and upstream.token_id_embedder:
                    by_ids, self._called = upstream.token_id_embedder, True
                    return await by_ids.embed(model, token_ids, dimensions=dimensions, credential=credential)
                texts = texts_in(request.inputs)
                if token_ids:
                    self._sent = texts = await decode_token_ids(token_ids, self._load_token_bytes)
                self._called = True
                return await embedder.embed(
                    model,
                    texts,
                    dimensions=dimensions,
                    credential=credential,
                    refuse_truncation=request.refuse_truncation,
                )
        except TimeoutError:
            self._is_late = True
            raise UpstreamTimedOut("the upstream did not respond in time", maybe_billed=self._called) from None

    def _record_failure(self, call: Call, failed: UpstreamFailed, waited: float) -> None:
        if not self._called or (self._is_late and waited < IMPATIENT_SECONDS):
            call.circuit.abandoned(call.ticket)
        else:
            record_failure(call, failed, self._clock.monotonic(), hung=self._is_late)

    async def _usage(self, embeddings: Embeddings, counter: TokenCounter) -> TokenUsage:
        if embeddings.usage is not None:
            return embeddings.usage
        token_ids = token_ids_in(self._sent)
        counted = sum(map(len, token_ids)) if token_ids else await counter.count(texts_in(self._sent))
        return UNKNOWN_USAGE if counted is None else TokenUsage(UsageSource.COUNTED, counted, 0)


def token_ids_in(inputs: Sequence[EmbeddingInput]) -> list[tuple[int, ...]]:
    return [one for one in inputs if not isinstance(one, str)]


def texts_in(inputs: Sequence[EmbeddingInput]) -> list[str]:
    return [one for one in inputs if isinstance(one, str)]
