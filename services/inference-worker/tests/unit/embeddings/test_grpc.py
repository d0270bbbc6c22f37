import pytest
from argosy.common.v1.common_pb2 import TokenIds
from argosy.inference.v1 import inference_pb2
from chassis.errors import ArgosyError, InvalidRequest, Kind
from inference_worker.embeddings.grpc import proto_to_embed_request
from served_worker import ServedWorker, an_embed_request


@pytest.fixture
def worker() -> ServedWorker:
    return ServedWorker()


async def test_texts_are_embedded_over_the_wire(worker: ServedWorker):
    async with worker.serve() as stub:
        response = await stub.Embed(an_embed_request())

    assert [len(vector.float32) for vector in response.vectors] == [8, 8]
    assert not response.HasField("error")
    assert response.attempts[0].usage.input_tokens == 5
    assert response.attempts[0].usage.HasField("output_tokens")


async def test_vectors_travel_in_pieces(worker: ServedWorker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("values.embeddings.PIECE_BYTES", 16)
    request = an_embed_request()
    request.inputs[:] = ["a"] * 5
    async with worker.serve() as stub:
        pieces = [one.piece async for one in stub.EmbedInPieces(inference_pb2.EmbedInPiecesRequest(request=request))]

    assert [len(piece.vectors) for piece in pieces] == [2, 2, 1]
    assert [len(piece.attempts) for piece in pieces] == [1, 0, 0]
    assert pieces[0].attempts[0].usage.input_tokens == 5


async def test_vectors_of_more_than_one_message_arrive(worker: ServedWorker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker.embedder, "vector", b"\1" * 65_536)
    request = an_embed_request()
    request.inputs[:] = ["a"] * 320
    async with worker.serve() as stub:
        pieces = [one.piece async for one in stub.EmbedInPieces(inference_pb2.EmbedInPiecesRequest(request=request))]

    assert sum(len(vector.float32) for piece in pieces for vector in piece.vectors) == 20 * 1024 * 1024
    assert {piece.ByteSize() < 300_000 for piece in pieces} == {True}


@pytest.mark.parametrize("refuse", [True, False])
async def test_whether_long_texts_are_refused_is_passed_on(worker: ServedWorker, refuse: bool):
    request = an_embed_request()
    request.refuse_truncation = refuse
    async with worker.serve() as stub:
        await stub.Embed(request)

    assert worker.embedder.refuse_truncation is refuse


async def test_a_failed_embedding_in_pieces_is_one_piece(worker: ServedWorker):
    request = inference_pb2.EmbedInPiecesRequest(request=an_embed_request("cut-before"))
    async with worker.serve() as stub:
        (piece,) = [one.piece async for one in stub.EmbedInPieces(request)]

    assert (piece.error.reason, piece.retry_same, piece.fallback) == ("UPSTREAM_FAILED", True, True)
    assert piece.attempts[0].outcome == inference_pb2.ATTEMPT_OUTCOME_REJECTED


async def test_a_failed_embedding_returns_its_error(worker: ServedWorker):
    async with worker.serve() as stub:
        response = await stub.Embed(an_embed_request("500"))

    assert not response.vectors
    assert (response.error.kind, response.error.reason) == (Kind.UPSTREAM, "UPSTREAM_FAILED")
    assert response.attempts[0].outcome == inference_pb2.ATTEMPT_OUTCOME_REJECTED


@pytest.mark.parametrize(
    ("model", "retry_same", "fallback"), [("500", False, True), ("cut-before", True, True), ("400", False, False)]
)
async def test_a_failed_embedding_says_what_may_help(
    worker: ServedWorker, model: str, retry_same: bool, fallback: bool
):
    async with worker.serve() as stub:
        response = await stub.Embed(an_embed_request(model))

    assert (response.retry_same, response.fallback) == (retry_same, fallback)


async def test_a_call_without_a_principal_is_refused(worker: ServedWorker):
    async with worker.serve(None) as stub:
        with pytest.raises(ArgosyError) as caught:
            await stub.Embed(an_embed_request())

    assert caught.value.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (inference_pb2.EmbedRequest(inputs=[]), "inputs"),
        (inference_pb2.EmbedRequest(inputs=["a", ""]), "inputs"),
        (inference_pb2.EmbedRequest(inputs=["a"] * 2049), "inputs"),
        (inference_pb2.EmbedRequest(token_inputs=[TokenIds(ids=[1]), TokenIds()]), "inputs"),
        (inference_pb2.EmbedRequest(token_inputs=[TokenIds(ids=[1])], inputs=["a"]), "inputs"),
        (inference_pb2.EmbedRequest(inputs=["a"], dimensions=-1), "dimensions"),
        (inference_pb2.EmbedRequest(inputs=["a"]), "candidates"),
        (
            inference_pb2.EmbedRequest(inputs=["a"], candidates=[inference_pb2.Candidate(upstream="fake")]),
            "candidates",
        ),
        # Its second call could not be recorded before it is made.
        (
            inference_pb2.EmbedRequest(
                inputs=["a"], candidates=[inference_pb2.Candidate(upstream="fake", model="m")] * 2
            ),
            "candidates",
        ),
    ],
)
def test_an_invalid_embedding_request_is_refused(message: inference_pb2.EmbedRequest, param: str):
    with pytest.raises(InvalidRequest) as caught:
        proto_to_embed_request(message)

    assert caught.value.param == param
