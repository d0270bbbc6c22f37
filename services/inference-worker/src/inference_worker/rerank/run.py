"""Scores documents by one provider call."""

from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError
from values.usage import UNKNOWN_USAGE, BillingUnit, TokenUsage, UsageSource

from inference_worker.breakers.circuits import Circuits
from inference_worker.plans.model import Attempt, Candidate
from inference_worker.plans.ports import AttemptObserver
from inference_worker.plans.single_call import SingleCall
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import Scores, UpstreamFailed
from inference_worker.providers.ports import Upstream, Upstreams
from inference_worker.providers.unavailable import RERANKING_UNSUPPORTED
from inference_worker.token_counting.model import TokenCounter


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to score for a query, and by what."""

    candidate: Candidate
    query: str
    documents: tuple[str, ...]
    deadline: timedelta
    billing_unit: BillingUnit = BillingUnit.TOKENS
    """What the usage counts."""


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Scores in the order of the documents, or the error; and the record of the attempt."""

    scores: tuple[float, ...]
    attempt: Attempt
    error: ArgosyError | None
    warnings: tuple[str, ...] = ()


class RerankRun(SingleCall[Scores]):
    """One run of a request."""

    def __init__(
        self,
        request: RerankRequest,
        *,
        upstreams: Upstreams,
        clock: Clock,
        observer: AttemptObserver,
        circuits: Circuits | None = None,
    ) -> None:
        super().__init__(
            request.candidate, request.deadline, upstreams=upstreams, clock=clock, observer=observer, circuits=circuits
        )
        self._request = request

    async def run(self) -> RerankResult:
        """Make the provider call, and record it and its error even when it is cancelled."""
        scores, record = await self.make()
        if scores is None:
            return RerankResult((), record.attempt, record.error)
        return RerankResult(scores.scores, record.attempt, record.error, _warnings(scores))

    async def _ask(self, upstream: Upstream, credential: Credential | None) -> Scores:
        request, reranker = self._request, upstream.reranker or RERANKING_UNSUPPORTED
        self._called = True
        try:
            return await reranker.rerank(
                request.candidate.model, request.query, request.documents, credential=credential
            )
        except UpstreamFailed as error:
            error.usage = self._in_unit(error.usage, error.search_units)
            raise

    async def _usage(self, answer: Scores, counter: TokenCounter) -> TokenUsage:  # noqa: ARG002 - part of the base class
        # Not counted: what of a document was read, and how often the query, the upstream alone knows.
        return self._in_unit(answer.usage, answer.search_units) or UNKNOWN_USAGE

    def _in_unit(self, tokens: TokenUsage | None, search_units: int | None) -> TokenUsage | None:
        """Return what was reported in the unit of the request; a count in another one has no price."""
        if self._request.billing_unit is BillingUnit.TOKENS:
            return tokens
        return None if search_units is None else TokenUsage(UsageSource.REPORTED, search_units, 0)


def _warnings(scores: Scores) -> tuple[str, ...]:
    if not scores.unscored:
        return ()
    return (f"The model left {scores.unscored} of {len(scores.scores)} documents without a score: they have 0.",)
