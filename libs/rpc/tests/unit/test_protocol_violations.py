"""Clients that break the rules: the call concerned ends with a status, the others go on, nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from argosy.exchange.v1.exchange_pb2 import Batch, Frame
from chassis.testing.grpc import serving_at
from rpc.wire import MAX_PAYLOAD_BYTES, WINDOW_BYTES

from libs.chassis.tests.echo_service import SERVICE, EchoService, register
from libs.rpc.tests.leaks import held, until_back_to
from libs.rpc.tests.raw_peer import RawClient, begin, known, payload_frame, raw_client

INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


@pytest.fixture
async def client(echo: EchoService) -> AsyncIterator[RawClient]:
    """A stream with a call at hand, which must be as well at the end as it was at the start."""
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server:
        before = held()
        async with raw_client(server.port) as client:
            await client.send(begin(1, "Answer", "before", end=False))
            await client.frame(1)
            yield client
            await client.send(payload_frame(1, "after"))
            assert not (await client.frame(1)).end
            assert await client.ask(1_000_000) == "a!"
        await until_back_to(before)


async def test_a_payload_after_the_end_ends_its_call(client: RawClient) -> None:
    await client.send(begin(2, "Echo", "hang"))
    await client.send(payload_frame(2, "more"))

    assert (await client.end(2)).code == INVALID


async def test_a_call_started_twice_ends(client: RawClient) -> None:
    await client.send(begin(2, "Echo", "hang"), begin(2, "Echo", "again"))

    assert (await client.end(2)).code == INVALID


async def test_an_id_that_goes_backwards_begins_nothing(client: RawClient, echo: EchoService) -> None:
    assert await client.ask(10) == "a!"
    await client.send(begin(5, "Echo", "late"))

    assert (await client.end(5)).code == INVALID
    assert len(echo.callers) == 1


@pytest.mark.parametrize("frame", [payload_frame(7, "a"), Frame(call_id=7, credit=1), Frame(call_id=7, end=True)])
async def test_a_frame_of_an_unknown_call_is_answered_with_an_error(client: RawClient, frame: Frame) -> None:
    await client.send(frame)

    assert (await client.end(7)).code == INVALID


@pytest.mark.parametrize("frame", [Frame(payloads=[b"a"]), begin(0, "Echo", "a"), Frame(cancel=True)])
async def test_a_call_named_0_is_none(client: RawClient, echo: EchoService, frame: Frame) -> None:
    await client.send(frame)

    assert await client.ask(2) == "a!"
    assert len(echo.callers) == 1


async def test_frames_of_a_call_that_has_ended_have_crossed_and_are_dropped(client: RawClient) -> None:
    assert await client.ask(2) == "a!"
    await client.send(
        payload_frame(2, "late"), Frame(call_id=2, cancel=True), Frame(call_id=2, credit=9), payload_frame(2, end=True)
    )

    assert await client.ask(3) == "a!"


async def test_an_unknown_method_is_unimplemented(client: RawClient) -> None:
    for call_id, method in ((2, "/test.EchoService/Sing"), (3, "nonsense"), (4, "/")):
        await client.send(Frame(call_id=call_id, method=method, metadata=known(), payloads=[b""], end=True))

        assert (await client.end(call_id)).code == grpc.StatusCode.UNIMPLEMENTED.value[0]


@pytest.mark.parametrize("metadata", [["odd"], ["x-bin", "not base64!"], ["x-bin", "ä"]])
async def test_malformed_metadata_ends_the_call(client: RawClient, metadata: list[str]) -> None:
    await client.send(begin(2, "Echo", "a", metadata=known(*metadata)))

    assert (await client.end(2)).code == INVALID


async def test_a_payload_over_the_limit_ends_its_call(client: RawClient) -> None:
    await client.send(
        Frame(call_id=2, method="/test.EchoService/Echo", metadata=known(), payloads=[bytes(MAX_PAYLOAD_BYTES + 1)])
    )

    assert (await client.end(2)).code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_payloads_beyond_the_allowance_end_their_call(client: RawClient) -> None:
    await client.send(begin(2, "Echo", "hang", end=False))
    await client.send(Frame(call_id=2, payloads=[bytes(WINDOW_BYTES)]))
    await client.send(Frame(call_id=2, payloads=[b"a"]))

    assert (await client.end(2)).code == INVALID


async def test_payloads_of_no_bytes_have_a_bound_too(client: RawClient, echo: EchoService) -> None:
    await client.send(begin(2, "Echo", "hang", end=False))
    for _ in range(20):
        await client.send(Frame(call_id=2, payloads=[b""] * 1_000))

    assert (await client.end(2)).code == INVALID


async def test_a_call_without_a_request_or_cancelled_at_once_is_over(client: RawClient, echo: EchoService) -> None:
    await client.send(begin(2, "Echo"))
    assert (await client.end(2)).code == INVALID

    await client.send(begin(3, "Echo", "hang", cancel=True))
    assert await client.ask(4) == "a!"


@pytest.mark.parametrize("microseconds", [2**64 - 1, 1])
async def test_any_time_limit_will_do(client: RawClient, microseconds: int) -> None:
    await client.send(begin(2, "Echo", "a", timeout_microseconds=microseconds))

    assert (await client.end(2)).code in {0, grpc.StatusCode.DEADLINE_EXCEEDED.value[0]}


@pytest.mark.parametrize(
    "data", [b"\xff\xff", Batch(frames=[begin(2, "Echo", "hang")]).SerializeToString()[:-3], b"\x0a\x02\x12\x00x"]
)
async def test_a_batch_that_is_none_ends_the_stream_with_a_status_and_all_its_calls(
    echo: EchoService, data: bytes
) -> None:
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server:
        before = held()
        async with raw_client(server.port) as client:
            await client.send(begin(1, "Echo", "hang"))
            await echo.reached.wait()
            await client.call.write(data)

            assert await client.call.code() is grpc.StatusCode.INVALID_ARGUMENT
        await echo.cleaned.wait()
        await until_back_to(before)
        async with raw_client(server.port) as client:
            assert await client.ask(1) == "a!"


@pytest.mark.parametrize("metadata", [None, (("argosy-exchange", "2"),), (("argosy-exchange", ""),)])
async def test_the_error_for_another_version_names_the_supported_one(echo: EchoService, metadata: object) -> None:
    async with (
        serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server,
        raw_client(server.port, metadata) as client,
    ):
        assert await client.call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "argosy-exchange: 1" in await client.call.details()


async def test_the_calls_of_a_disconnected_client_end(echo: EchoService) -> None:
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as server:
        before = held()
        async with raw_client(server.port) as client:
            await client.send(*(begin(call_id, "Echo", "hang") for call_id in range(1, 101)))
            await echo.reached.wait()
            client.call.cancel()
        async with asyncio.timeout(30):
            await echo.cleaned.wait()
        await until_back_to(before)
