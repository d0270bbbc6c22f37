"""Embeds texts by one provider call."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError
from values.embeddings import EmbeddingInput
from values.usage import UNKNOWN_USAGE, TokenUsage, UsageSource

from inference_worker.breakers.circuits import Circuits
from inference_worker.embeddings.token_ids import LoadTokenBytes, decode_token_ids
from inference_worker.plans.model import Attempt, Candidate
from inference_worker.plans.ports import AttemptObserver
from inference_worker.plans.single_call import SingleCall
from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import Embeddings
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


class EmbedRun(SingleCall[Embeddings]):
    """One run of a request."""

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
        super().__init__(
            request.candidate, request.deadline, upstreams=upstreams, clock=clock, observer=observer, circuits=circuits
        )
        self._request = request
        self._load_token_bytes = load_token_bytes
        self._sent: Sequence[EmbeddingInput] = request.inputs
        """What the provider gets: the texts of token ids if it does not take those."""

    async def run(self) -> EmbedResult:
        """Make the provider call, and record it and its error even when it is cancelled."""
        embeddings, record = await self.make()
        return EmbedResult(embeddings.vectors if embeddings else (), record.attempt, record.error)

    async def _ask(self, upstream: Upstream, credential: Credential | None) -> Embeddings:
        request, embedder = self._request, upstream.embedder or EMBEDDINGS_UNSUPPORTED
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

    async def _usage(self, answer: Embeddings, counter: TokenCounter) -> TokenUsage:
        if answer.usage is not None:
            return answer.usage
        token_ids = token_ids_in(self._sent)
        counted = sum(map(len, token_ids)) if token_ids else await counter.count(texts_in(self._sent))
        return UNKNOWN_USAGE if counted is None else TokenUsage(UsageSource.COUNTED, counted, 0)


def token_ids_in(inputs: Sequence[EmbeddingInput]) -> list[tuple[int, ...]]:
    return [one for one in inputs if not isinstance(one, str)]


def texts_in(inputs: Sequence[EmbeddingInput]) -> list[str]:
    return [one for one in inputs if isinstance(one, str)]
