"""Embeds texts: candidates in order until one responds."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest
from values.usage import NO_USAGE, UNKNOWN_USAGE, TokenUsage, UsageSource

from inference_worker.plans.attempt import failed_outcome
from inference_worker.plans.fallback import next_candidate
from inference_worker.plans.model import Attempt, AttemptOutcome, Candidate
from inference_worker.plans.ports import AttemptObserver
from inference_worker.providers.model import Embeddings, UpstreamFailed, UpstreamTimedOut
from inference_worker.providers.ports import Upstreams
from inference_worker.providers.unavailable import EMBEDDINGS_UNSUPPORTED, UNKNOWN_UPSTREAM
from inference_worker.token_counting.model import TokenCounter


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed, and the candidates in the order to try them."""

    candidates: tuple[Candidate, ...]
    inputs: tuple[str, ...]
    deadline: timedelta
    """From the start, over all attempts."""
    dimensions: int | None = None
    """None is the model's own number."""


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """Vectors in the order of the inputs, or the error; and the record of attempts."""

    vectors: tuple[bytes, ...]
    attempts: tuple[Attempt, ...]
    error: ArgosyError | None


class EmbedRun:
    """One run of a request. When it is cancelled it aborts the upstream call, and the record of attempts is lost."""

    def __init__(self, request: EmbedRequest, *, upstreams: Upstreams, clock: Clock, observer: AttemptObserver) -> None:
        self._request = request
        self._upstreams = upstreams
        self._clock = clock
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + request.deadline.total_seconds()
        self._attempts: list[Attempt] = []
        self._error: ArgosyError | None = None

    async def run(self) -> EmbedResult:
        """Embed by the first candidate that responds within the deadline."""
        index: int | None = 0
        embeddings = None
        while index is not None:
            embeddings = await self._try(index)
            index = next_candidate(self._error, self._attempts, len(self._request.candidates))
            if index is not None and self._loop.time() >= self._deadline:
                self._error = UpstreamTimedOut("no upstream responded before the deadline")
                break
        return EmbedResult(embeddings.vectors if embeddings else (), tuple(self._attempts), self._error)

    async def _try(self, index: int) -> Embeddings | None:
        """Run one attempt, and record it and its error even when it is cancelled."""
        request, candidate = self._request, self._request.candidates[index]
        number = len(self._attempts) + 1
        upstream = self._upstreams.get(candidate.upstream, UNKNOWN_UPSTREAM)
        embedder = upstream.embedder or EMBEDDINGS_UNSUPPORTED
        span = self._observer.start(candidate, number)
        started_at = self._clock.monotonic()
        embeddings, self._error = None, None
        outcome, usage = AttemptOutcome.CANCELLED, UNKNOWN_USAGE
        try:
            async with asyncio.timeout_at(self._deadline):
                embeddings = await embedder.embed(candidate.model, request.inputs, dimensions=request.dimensions)
            outcome, usage = AttemptOutcome.SUCCEEDED, await self._usage(embeddings, upstream.counter)
        except TimeoutError:
            outcome = AttemptOutcome.TIMED_OUT
            self._error = UpstreamTimedOut("the upstream did not respond in time")
        except UpstreamFailed as error:
            outcome, self._error = failed_outcome(error), error
            usage = UNKNOWN_USAGE if error.maybe_billed else NO_USAGE
        except InvalidRequest as error:
            outcome, usage, self._error = AttemptOutcome.REJECTED, NO_USAGE, error
        finally:
            duration = timedelta(seconds=self._clock.monotonic() - started_at)
            attempt = Attempt(number, index, outcome, usage, duration if embeddings else None, duration)
            self._attempts.append(attempt)
            span.finish(attempt, self._error)
        return embeddings

    async def _usage(self, embeddings: Embeddings, counter: TokenCounter) -> TokenUsage:
        if embeddings.usage is not None:
            return embeddings.usage
        counted = await counter.count(self._request.inputs)
        return UNKNOWN_USAGE if counted is None else TokenUsage(UsageSource.COUNTED, counted, 0)
