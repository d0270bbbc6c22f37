"""What an `InferenceClient` promises: the fake of the tests, and the client over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import add_OrchestrationServiceServicer_to_server
from chassis.errors import ArgosyError, Kind, RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal, free_port
from chassis.testing.grpc import serving
from gateway.inference.model import (
    ChatRequest,
    Chunk,
    CompletionStream,
    EmbeddingsRequest,
    Finished,
    InferenceClient,
    RerankRequest,
    Started,
    StreamEvent,
)
from gateway.inference.orchestrator_client import GRACE, OrchestratorClient
from values.money import NanoUsd

from services.gateway.tests.fakes.inference import (
    BODY,
    CHUNKS,
    COST,
    MODEL_NOT_FOUND,
    SOURCE,
    USAGE_PAYLOAD,
    FakeInference,
    reported,
)
from services.gateway.tests.fakes.orchestrator import FakeOrchestrator

CHAT = ChatRequest("req_1", "smollm2", b'{"odd": 1}', stream=True, deadline=timedelta(seconds=60))
EMBED = EmbeddingsRequest("req_1", "mini", ["a", "b"], 8, timedelta(seconds=60))
INTERRUPTED = RemoteError(Kind.UPSTREAM, "UPSTREAM_INTERRUPTED", "The provider hung up.")
SERVICE = "argosy.orchestration.v1.OrchestrationService"


@pytest.fixture
def script() -> FakeInference:
    """What the orchestrator responds."""
    return FakeInference()


@pytest.fixture(params=["fake", "grpc"])
async def inference(request: pytest.FixtureRequest, script: FakeInference) -> AsyncIterator[InferenceClient]:
    if request.param == "fake":
        yield script
        return
    servicer = FakeOrchestrator(script)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, SERVICE)) as channel:
        yield OrchestratorClient(channel)


@pytest.fixture(autouse=True)
def demo() -> Iterator[None]:
    with as_caller(a_caller(a_principal("ten_demo"), "req_1")):
        yield


async def read_all(stream: CompletionStream) -> list[StreamEvent]:
    """Read to the end."""
    events: list[StreamEvent] = []
    while (event := await stream.read()) is not None:
        events.append(event)
    return events


async def test_events_arrive_with_every_field(inference: InferenceClient, script: FakeInference) -> None:
    sent: list[StreamEvent] = [
        Started([SOURCE], soft_limit_passed=True, warnings=("The field x was dropped.",)),
        Chunk(list(CHUNKS)),
        Chunk([BODY]),
        Finished(reported(3, 0), COST, usage_payload=USAGE_PAYLOAD),
    ]
    script.chat = sent

    assert await read_all(inference.generate(CHAT)) == sent
    assert script.requests == [CHAT]
    assert script.callers[0].principal.tenant_id == "ten_demo"
    assert script.callers[0].request_id == "req_1"


async def test_unknown_usage_stays_unknown(inference: InferenceClient, script: FakeInference) -> None:
    script.chat = [Finished(reported(None, 0), NanoUsd(0))]

    assert await read_all(inference.generate(CHAT)) == [Finished(reported(None, 0), NanoUsd(0))]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("UPSTREAM_INTERRUPTED", Kind.UPSTREAM),
        ("UPSTREAM_TIMED_OUT", Kind.TIMED_OUT),
        ("UPSTREAM_RATE_LIMITED", Kind.THROTTLED),
        ("UPSTREAM_REJECTED", Kind.INVALID),
    ],
)
async def test_an_interrupted_stream_has_its_error(
    inference: InferenceClient, script: FakeInference, reason: str, kind: Kind
) -> None:
    script.chat = [Chunk([BODY]), Finished(reported(3, 1), COST, error=RemoteError(kind, reason, "Sorry."))]

    finished = (await read_all(inference.generate(CHAT)))[-1]

    assert isinstance(finished, Finished)
    assert isinstance(finished.error, ArgosyError)
    assert (finished.error.kind, finished.error.reason, finished.error.message) == (kind, reason, "Sorry.")


async def test_a_refusal_is_raised_by_the_first_read(inference: InferenceClient, script: FakeInference) -> None:
    script.chat = [MODEL_NOT_FOUND]

    with pytest.raises(ArgosyError) as caught:
        await inference.generate(CHAT).read()
    assert (caught.value.reason, caught.value.kind, caught.value.param) == (
        "MODEL_NOT_FOUND",
        Kind.NOT_FOUND,
        "model",
    )


async def test_an_error_between_chunks_is_raised_there(inference: InferenceClient, script: FakeInference) -> None:
    script.chat = [Chunk([BODY]), INTERRUPTED]
    stream = inference.generate(CHAT)

    assert await stream.read() == Chunk([BODY])
    with pytest.raises(ArgosyError) as caught:
        await stream.read()
    assert caught.value.reason == "UPSTREAM_INTERRUPTED"


async def test_cancel_stops_the_work(inference: InferenceClient, script: FakeInference) -> None:
    script.chat = [Chunk([BODY]), asyncio.Event()]
    stream = inference.generate(CHAT)
    await stream.read()

    stream.cancel()

    async with asyncio.timeout(30):
        while not script.streams[0].cancelled:
            await asyncio.sleep(0.01)


async def test_cancel_before_the_first_read_or_after_the_end_is_harmless(
    inference: InferenceClient, script: FakeInference
) -> None:
    inference.generate(CHAT).cancel()
    stream = inference.generate(CHAT)
    await read_all(stream)
    stream.cancel()


async def test_texts_are_embedded(inference: InferenceClient, script: FakeInference) -> None:
    script.embedding = [b"\0\0\x80?", b"\0\0\0@"]

    result = await inference.embed(EMBED)

    assert (list(result.vectors), result.usage, result.cost) == (script.embedding, reported(7, None), COST)
    assert script.requests == [EMBED]


async def test_texts_that_would_not_be_read_to_their_end_are_to_be_refused(script: FakeInference) -> None:
    script.embedding = [b"1111", b"2222"]
    servicer = FakeOrchestrator(script)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, SERVICE)) as channel:
        await OrchestratorClient(channel).embed(EMBED)

    assert [request.refuse_truncation for request in servicer.embed_requests] == [True]


async def test_vectors_arrive_in_pieces(inference: InferenceClient, script: FakeInference) -> None:
    script.embedding, script.embedding_rest = [b"1111"], [[b"2222", b"3333"], [b"4444"]]

    result = await inference.embed(EmbeddingsRequest("req_1", "mini", ["a"] * 4, 0, EMBED.deadline))

    assert (list(result.vectors), result.cost) == ([b"1111"], COST)
    assert result.rest is not None
    assert [list(piece) async for piece in result.rest] == [[b"2222", b"3333"], [b"4444"]]


async def test_pieces_that_break_off_raise(inference: InferenceClient, script: FakeInference) -> None:
    script.embedding, script.embedding_rest = [b"1111"], [INTERRUPTED]

    result = await inference.embed(EMBED)

    assert result.rest is not None
    with pytest.raises(ArgosyError):
        await anext(aiter(result.rest))


@pytest.mark.parametrize("read", [0, 1])
async def test_pieces_that_are_not_read_are_cancelled(
    inference: InferenceClient, script: FakeInference, read: int
) -> None:
    script.embedding, script.embedding_rest = [b"1111"], [[b"2222"], asyncio.Event()]

    result = await inference.embed(EmbeddingsRequest("req_1", "mini", ["a"] * 3, 0, EMBED.deadline))
    assert result.rest is not None
    pieces = aiter(result.rest)
    for _ in range(read):
        await anext(pieces)
    result.rest.cancel()

    await asyncio.wait_for(script.embedding_ended.wait(), 30)


async def test_an_older_orchestrator_embeds_in_one_message(script: FakeInference) -> None:
    class Older(FakeOrchestrator):
        async def EmbedInPieces(self, message: Any, context: Any) -> Any:  # type: ignore[override]
            raise NotImplementedError

        async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
            return pb.EmbedResponse(vectors=[pb.Vector(float32=b"1111"), pb.Vector(float32=b"2222")])

    async with serving((add_OrchestrationServiceServicer_to_server, Older(script), SERVICE)) as channel:
        result = await OrchestratorClient(channel).embed(EMBED)

    assert (list(result.vectors), result.rest) == ([b"1111", b"2222"], None)


async def test_documents_are_scored(inference: InferenceClient, script: FakeInference) -> None:
    request = RerankRequest("req_1", "scorer", "a ship", ["an invoice", "a ship"], timedelta(seconds=60))
    script.scores = [0.25, 1.0]

    result = await inference.rerank(request)

    assert (result.scores, result.usage.input_tokens, result.cost) == ([0.25, 1.0], 9, COST)
    assert script.requests == [request]


async def test_a_refusal_to_embed_is_raised(inference: InferenceClient, script: FakeInference) -> None:
    script.embedding = INTERRUPTED

    with pytest.raises(ArgosyError) as caught:
        await inference.embed(EMBED)
    assert caught.value.reason == "UPSTREAM_INTERRUPTED"


async def test_models_are_listed(inference: InferenceClient, script: FakeInference) -> None:
    assert list(await inference.list_models()) == list(script.models)


async def test_the_rpc_timeout_is_the_deadline_and_a_grace(
    script: FakeInference,
) -> None:
    servicer = FakeOrchestrator(script)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, SERVICE)) as channel:
        await read_all(OrchestratorClient(channel).generate(CHAT))

    assert 60 < servicer.deadlines[0] < 61 + GRACE.total_seconds()


async def test_an_orchestrator_that_is_down_is_unavailable() -> None:
    async with Channel(f"127.0.0.1:{free_port()}", "orchestrator", timeout=timedelta(milliseconds=200)) as channel:
        with pytest.raises(Unavailable):
            await OrchestratorClient(channel).list_models()
