"""Embeddings over gRPC."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.in_flight import RETRY_AFTER, Overloaded, TooMuchInFlight
from values.embeddings import split_vectors
from values.limits import MAX_VECTOR_BYTES
from values.protos import proto_to_duration, proto_to_inputs, usage_to_proto
from values.roles import current_member

from orchestrator.chat.finalize import PricedUsage
from orchestrator.embeddings.embed import Embeddings, PricedEmbeddings
from orchestrator.embeddings.prepare import EmbedRequest
from orchestrator.limits import shorter_timeout
from orchestrator.telemetry import RequestObservation

MAX_UNREAD_OF_TENANT = 2 * MAX_VECTOR_BYTES
MAX_UNREAD = 8 * MAX_VECTOR_BYTES


class UnreadVectors:
    """Counts vectors that are settled, and that stay in memory until their clients have read them.

    A tenant with too many gets no new ones before some are read.
    """

    def __init__(self) -> None:
        self._by_tenant: Counter[str] = Counter()
        self._total = 0

    def check(self, tenant_id: str) -> None:
        """Look before a provider is called. Raises `TooMuchInFlight`, `Overloaded`."""
        if self._by_tenant[tenant_id] >= MAX_UNREAD_OF_TENANT:
            raise TooMuchInFlight(
                "Vectors of earlier requests of yours wait to be read; read them, and try again.",
                retry_after=RETRY_AFTER,
            )
        if self._total >= MAX_UNREAD:
            raise Overloaded("Too many vectors wait to be read; try again.", retry_after=RETRY_AFTER)

    @contextmanager
    def keep(self, tenant_id: str, size: int) -> Iterator[Callable[[int], None]]:
        """Count `size` bytes until the block ends; yields what takes those off that were read."""
        left = size

        def read(count: int) -> None:
            nonlocal left
            left -= count
            self._count(tenant_id, -count)

        self._count(tenant_id, size)
        try:
            yield read
        finally:
            self._count(tenant_id, -left)

    def _count(self, tenant_id: str, size: int) -> None:
        self._total += size
        self._by_tenant[tenant_id] += size
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]


async def embed(embeddings: Embeddings, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
    result = await _embed(embeddings, request, context)
    message = pb.EmbedResponse()
    _add_vectors(message, result.vectors)
    _add_bill(message, result.priced)
    return message


async def embed_in_pieces(
    embeddings: Embeddings, unread: UnreadVectors, request: pb.EmbedInPiecesRequest, context: Any
) -> None:
    """Write the vectors in pieces, once they are settled, each when the caller has read those before it."""
    tenant_id = current_member().tenant_id
    unread.check(tenant_id)
    result = await _embed(embeddings, request.request, context)
    priced, pieces = result.priced, deque(split_vectors(result.vectors))
    del result  # it has all vectors until the last one is read
    response = pb.EmbedInPiecesResponse()
    _add_bill(response.piece, priced)
    with unread.keep(tenant_id, sum(map(_size, pieces))) as read:
        while pieces:
            vectors = pieces.popleft()
            _add_vectors(response.piece, vectors)
            await context.write(response)
            read(_size(vectors))
            response = pb.EmbedInPiecesResponse()


def _size(vectors: Sequence[bytes]) -> int:
    return sum(map(len, vectors))


async def _embed(embeddings: Embeddings, request: pb.EmbedRequest, context: Any) -> PricedEmbeddings:
    requested = proto_to_duration(request.deadline) if request.HasField("deadline") else None
    principal, timeout = current_member(), shorter_timeout(requested, context.time_remaining())
    embed_request = EmbedRequest(
        request.request_id,
        principal,
        request.model,
        proto_to_inputs(request),
        request.dimensions,
        timeout,
        refuse_truncation=request.refuse_truncation,
    )
    with RequestObservation("embedding", request.model) as observation:
        observation.flags = embed_request.flags
        result = await embeddings.embed(embed_request)
        observation.finished(result.priced.usage, result.priced.cost)
    return result


def _add_bill(message: pb.EmbedResponse, priced: PricedUsage) -> None:
    usage_to_proto(priced.usage, message.usage)
    message.cost.nano_usd = priced.cost


def _add_vectors(message: pb.EmbedResponse, vectors: Sequence[bytes]) -> None:
    for vector in vectors:
        message.vectors.add(float32=vector)
