"""Texts to vectors, priced and settled as any inference."""

import asyncio

import pytest
from chassis.errors import InvalidRequest, Kind, RemoteError, Unavailable
from orchestrator.domain.errors import ModelNotFound, RequestTooLarge
from orchestrator.domain.ports import Embedding, Failure
from orchestrator.domain.usage import UNKNOWN

from services.orchestrator.tests.fakes import FakeMetering, FakeWorker
from services.orchestrator.tests.world import POLICY, World, an_account, reported


def a_world(*vectors: bytes) -> World:
    return World(FakeWorker(embedding=Embedding(vectors, an_account(reported(2, 0)))))


async def test_vectors_come_with_their_bill_and_the_usage_is_recorded():
    world = a_world(b"\0\0\0\0", b"\0\0\x80?")

    embedded = await world.embed("a", "b", dimensions=128)

    assert embedded.vectors == (b"\0\0\0\0", b"\0\0\x80?")
    assert embedded.bill.cost == 2 * 10
    plan = world.worker.embeddings[0]
    assert (plan.inputs, plan.dimensions) == (("a", "b"), 128)
    (attempt,) = (await world.usage).attempts
    assert (attempt.price_key, attempt.usage) == ("minilm/all-minilm-l6-v2", reported(2, 0))


@pytest.mark.parametrize(
    ("inputs", "more", "param"),
    [
        ((), {}, "input"),
        (("a", ""), {}, "input"),
        (("a",) * 2049, {}, "input"),
        (("a",), {"dimensions": -1}, "dimensions"),
        (("a",), {"dimensions": 70_000}, "dimensions"),
        (("a",), {"request_id": ""}, "request_id"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(inputs, more, param):
    world = a_world()

    with pytest.raises(InvalidRequest) as refused:
        await world.embed(*inputs, **more)

    assert refused.value.param == param
    assert not world.metering.reserved


async def test_too_many_bytes_are_refused():
    with pytest.raises(RequestTooLarge):
        await a_world().embed("ü" * POLICY.embedding_bytes)


async def test_a_chat_model_does_not_embed():
    with pytest.raises(ModelNotFound):
        await a_world().embed("a", model="smollm2")


async def test_an_unpriced_model_is_refused_before_the_worker_is_called():
    world = World(FakeWorker(), FakeMetering(prices={}))

    with pytest.raises(RemoteError):
        await world.embed("a")

    assert not world.worker.embeddings


async def test_a_failed_plan_is_an_error_and_its_attempts_are_recorded():
    failed = an_account(UNKNOWN, failure=Failure("UPSTREAM_FAILED", "no"))
    world = World(FakeWorker(embedding=Embedding((), failed)))

    with pytest.raises(RemoteError) as error:
        await world.embed("a")

    assert (error.value.kind, error.value.reason) == (Kind.UPSTREAM, "UPSTREAM_FAILED")
    assert (await world.usage).attempts[0].usage == UNKNOWN
    assert not world.crashes


async def test_a_worker_out_of_reach_releases_the_money():
    world = a_world()
    world.worker.unreachable = Unavailable("the worker does not answer")

    with pytest.raises(Unavailable):
        await world.embed("a")

    assert (await world.usage).attempts == ()


async def test_a_worker_that_refuses_releases_the_money():
    world = World(FakeWorker(embedding=RemoteError(Kind.INVALID, "INVALID_REQUEST", "no such dimensions")))

    with pytest.raises(RemoteError):
        await world.embed("a")

    assert (await world.usage).attempts == ()


async def test_a_worker_that_dies_leaves_a_call_of_unknown_usage():
    world = World(FakeWorker(embedding=Unavailable("it is gone")))

    with pytest.raises(Unavailable):
        await world.embed("a")

    assert (await world.usage).attempts[0].usage == UNKNOWN


async def test_our_bug_still_settles_the_call():
    world = World(FakeWorker(embedding=RuntimeError("a bug")))

    with pytest.raises(RuntimeError):
        await world.embed("a")

    assert (await world.usage).attempts[0].usage == UNKNOWN


async def test_a_caller_who_leaves_pays_for_what_was_begun():
    world = a_world(b"\0\0\0\0")
    world.worker.embed_gate = asyncio.Event()
    waiting = asyncio.ensure_future(world.embed("a"))
    while not world.worker.embeddings:
        await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert world.tasks.left == 1
    world.worker.embed_gate.set()
    assert (await world.usage).attempts[0].usage == reported(2, 0)
