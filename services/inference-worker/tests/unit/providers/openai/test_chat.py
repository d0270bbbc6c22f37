import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.clock import SystemClock
from chassis.testing import free_port
from inference_worker.plans.model import AttemptOutcome, Chunk, Event
from inference_worker.plans.run import PlanRun
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRateLimited,
)
from inference_worker.providers.openai.chat import OpenaiProvider
from inference_worker.providers.openai.chat_stream import are_plain_chunks
from inference_worker.providers.ports import Upstream
from inference_worker.providers.transport import http
from inference_worker.providers.transport.http import Endpoint, HttpClient
from provider_contract import KEY, complete, drain, open_completion, until
from worker_fakes import WORDS, FakeCounter, FakeObserver, a_candidate, a_plan, record, text_of

from tests.simulators.upstream import UpstreamSimulator


@pytest.fixture
async def client(simulator: UpstreamSimulator) -> AsyncIterator[HttpClient]:
    endpoint = Endpoint(
        f"{simulator.url}/v1/",
        {"authorization": f"Bearer {KEY}"},
        secrets=(KEY,),
        max_connections=2,
        max_response_bytes=256 * 1024,
        max_event_bytes=64 * 1024,
    )
    async with HttpClient(endpoint) as client:
        yield client


@pytest.fixture
def provider(client: HttpClient) -> OpenaiProvider:
    return OpenaiProvider(client)


@pytest.mark.parametrize("model", ["crlf", "dribble", "no-done", "paced?interval=0.001&chunks=8"])
async def test_the_completion_does_not_depend_on_its_framing(provider: OpenaiProvider, model: str):
    payloads, completion = await complete(provider, model, stream=True)

    assert text_of(payloads) == "".join(WORDS)
    assert completion.usage is not None


async def test_payloads_are_the_upstreams_own_bytes(provider: OpenaiProvider):
    payloads, _ = await complete(provider, "instant", stream=True)

    assert json.loads(payloads[0]).keys() == {"id", "object", "created", "model", "choices"}
    assert payloads[1].startswith(b'{"id": "chatcmpl-simulated", "object": "chat.completion.chunk"')


PLAIN = b'{"choices": [{"delta": {"content": "a"}}], "usage": null}'


@pytest.mark.parametrize(
    ("payloads", "plain"),
    [
        ([PLAIN], True),
        ([PLAIN] * 9, True),
        # Inside a JSON string the quotes are escaped, so the search for fields does not match.
        ([json.dumps({"choices": ['"usage": {} "error" "role"']}).encode()], True),
        ([b'{"choices":[]}', b'{"choices":[]}'], True),
        ([b'{"base_resp": {"status_code": 1004}, "choices": null}'], False),
        ([b'{"base_resp": {"status_code": 1004}, "choices": null}', PLAIN], False),
        ([PLAIN, b'{"choices": [{"delta": {"role": "assistant"}}]}'], False),
        ([PLAIN, b'{"type": "ping"}'], False),
        ([PLAIN, b'{"usage" : {"prompt_tokens": 1}}', PLAIN], False),
        ([PLAIN, b'{"error": "x"}'], False),
        ([PLAIN, b"not an object"], False),
        ([b'{"choices": [{"delta": {"role": "assistant"}}]}'], False),
        ([b'{"type": "ping"}'], False),
        ([b'{"choices": [], "usage" : {"prompt_tokens": 1}}'], False),
        ([b'{"choices": [], "error": "x"}'], False),
        ([b'"choices"'], False),
        ([PLAIN[:-1]], False),
        ([PLAIN + PLAIN], False),
        ([PLAIN.replace(b", ", b",\n")], False),
        ([b"{", b"}"], False),
        ([b"[]", PLAIN], False),
        ([b"{}\n{}", b"}", b"{}"], False),
    ],
)
def test_a_block_of_plain_chunks_is_recognized(payloads: list[bytes], plain: bool):
    assert are_plain_chunks(payloads) is plain


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_without_end_is_a_protocol_error(
    provider: OpenaiProvider, simulator: UpstreamSimulator, stream: bool
):
    with pytest.raises(UpstreamProtocolError):
        await complete(provider, "huge?bytes=3000000", stream=stream)

    await until(lambda: simulator.in_flight == 0)


async def test_an_endless_error_body_is_not_read(provider: OpenaiProvider, simulator: UpstreamSimulator):
    simulator.padding = 10_000_000

    with pytest.raises(UpstreamFailed) as caught:
        await complete(provider, "400", stream=False)

    assert len(caught.value.message) <= 500


async def test_an_unreachable_upstream_is_not_billed():
    async with HttpClient(Endpoint(f"http://127.0.0.1:{free_port()}/v1", {})) as client:
        with pytest.raises(UpstreamFailed) as caught:
            await complete(OpenaiProvider(client), "instant", stream=True)

    assert not caught.value.maybe_billed
    assert not caught.value.retry_same
    assert "127.0.0.1" not in caught.value.message


async def test_a_peer_that_does_not_speak_http_is_a_protocol_error():
    async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\x01 hello\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(not_http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(Endpoint(f"http://127.0.0.1:{port}", {})) as client:
            with pytest.raises(UpstreamProtocolError) as caught:
                await complete(OpenaiProvider(client), "instant", stream=True)

    assert caught.value.maybe_billed


async def test_a_redirect_is_not_followed(provider: OpenaiProvider, simulator: UpstreamSimulator):
    with pytest.raises(UpstreamFailed):
        await complete(provider, "302", stream=False)

    assert simulator.received == 1


async def test_a_connection_that_drops_at_once_is_retried_on_the_same_upstream(provider: OpenaiProvider):
    with pytest.raises(UpstreamFailed) as caught:
        await complete(provider, "cut-before", stream=True)

    assert caught.value.retry_same
    assert not caught.value.maybe_billed


async def test_a_connection_that_drops_later_may_have_been_billed(
    provider: OpenaiProvider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http, "STALE_CONNECTION_WINDOW_SECONDS", 0)

    with pytest.raises(UpstreamFailed) as caught:
        await complete(provider, "cut-before", stream=False)

    assert caught.value.maybe_billed
    assert not caught.value.retry_same
    assert caught.value.fallback


async def test_the_upstreams_retry_after_is_kept(provider: OpenaiProvider):
    with pytest.raises(UpstreamRateLimited) as caught:
        await complete(provider, "429", stream=True)

    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 7


async def test_a_stream_that_ends_without_its_mark_and_without_a_reason_is_interrupted(provider: OpenaiProvider):
    with pytest.raises(UpstreamInterrupted):
        await complete(provider, "no-end", stream=True)


async def test_a_connection_is_reused_after_its_response(
    client: HttpClient, provider: OpenaiProvider, simulator: UpstreamSimulator
):
    for _ in range(3):
        await complete(provider, "instant", stream=True)
        await until(lambda: client.pool is not None and client.pool.idle)
        await complete(provider, "instant", stream=False)

    assert simulator.connections == 1


async def test_an_aborted_connection_is_not_reused(provider: OpenaiProvider, simulator: UpstreamSimulator):
    completion = await open_completion(provider, "silent")
    await completion.read()
    completion.abort()

    await complete(provider, "instant", stream=True)

    assert simulator.connections == 2


async def test_a_stale_connection_is_replaced_within_the_plan(provider: OpenaiProvider):
    def run() -> PlanRun:
        upstreams = {"fake": Upstream(FakeCounter(), provider=provider)}
        return PlanRun(a_plan(a_candidate("stale")), upstreams=upstreams, clock=SystemClock(), observer=FakeObserver())

    assert len((await record(run())).finished.attempts) == 1
    second = await record(run())

    assert second.text == "".join(WORDS)
    assert [attempt.outcome for attempt in second.finished.attempts] == [
        AttemptOutcome.REJECTED,
        AttemptOutcome.SUCCEEDED,
    ]


async def test_stop_closes_the_connection_to_the_upstream(provider: OpenaiProvider, simulator: UpstreamSimulator):
    upstreams = {"fake": Upstream(FakeCounter(), provider=provider)}
    plan = a_plan(a_candidate("silent"))
    run = PlanRun(plan, upstreams=upstreams, clock=SystemClock(), observer=FakeObserver())
    words = 0

    async def stop_after_three(event: Event) -> None:
        nonlocal words
        words += len(event.payloads) if isinstance(event, Chunk) else 0
        if words >= 3:
            run.stop()

    recorded = await record(run, stop_after_three)

    await until(lambda: simulator.aborted == 1)
    assert recorded.finished.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert recorded.finished.attempts[0].usage.output_tokens == 3


async def test_a_call_without_a_free_connection_in_time_is_not_billed(simulator: UpstreamSimulator):
    endpoint = Endpoint(f"{simulator.url}/v1", {}, connect_timeout=timedelta(seconds=1), max_connections=1)
    async with HttpClient(endpoint) as client:
        provider = OpenaiProvider(client)
        completion = await open_completion(provider, "silent")

        with pytest.raises(UpstreamFailed) as caught:
            await open_completion(provider, "instant")

        assert not caught.value.maybe_billed
        completion.abort()


async def test_a_slow_reader_slows_the_upstream_down(provider: OpenaiProvider, simulator: UpstreamSimulator):
    # 20 MB; the buffers of the sockets and of aiohttp are far smaller.
    completion = await open_completion(provider, "instant?chunks=100000")
    await completion.read()

    await asyncio.sleep(0.3)

    assert simulator.in_flight == 1
    completion.abort()


async def test_a_long_stream_is_read_to_its_end(provider: OpenaiProvider):
    completion = await open_completion(provider, "instant?chunks=5000")
    payloads: list[bytes] = []

    await drain(completion, payloads)

    assert len(text_of(payloads).split()) == 5000
