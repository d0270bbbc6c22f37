"""Scores documents by one provider call."""

from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError
from values.usage import UNKNOWN_USAGE, TokenUsage

from inference_worker.breakers.circuits import Circuits
from inference_worker.plans.model import Attempt, Candidate
from inference_worker.plans.ports import AttemptObserver
from inference_worker.plans.single_call import SingleCall
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import Scores
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


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Scores in the order of the documents, or the error; and the record of the attempt."""

    scores: tuple[float, ...]
    attempt: Attempt
    error: ArgosyError | None


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
        return RerankResult(scores.scores if scores else (), record.attempt, record.error)

    async def _ask(self, upstream: Upstream, credential: Credential | None) -> Scores:
        request, reranker = self._request, upstream.reranker or RERANKING_UNSUPPORTED
        self._called = True
        return await reranker.rerank(request.candidate.model, request.query, request.documents, credential=credential)

    async def _usage(self, answer: Scores, counter: TokenCounter) -> TokenUsage:  # noqa: ARG002 - part of the base class
        # Not counted: what of a document was read, and how often the query, the upstream alone knows.
        return UNKNOWN_USAGE if answer.usage is None else answer.usage
