import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.clock import SystemClock
from chassis.testing import free_port
from inference_worker.adapters import http
from inference_worker.adapters.http import Endpoint, HttpUpstream
from inference_worker.adapters.openai import OpenaiProvider, _are_plain
from inference_worker.domain.account import Outcome
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage, UpstreamRateLimited
from inference_worker.domain.infer import PlanRun
from inference_worker.domain.ports import Upstream
from provider_contract import KEY, drain, said, until
from worker_fakes import WORDS, FakeCounter, FakeJournal, a_candidate, a_plan, run_to_the_end, text_of

from tests.simulators.upstream import UpstreamSimulator


@pytest.fixture
async def provider(simulator: UpstreamSimulator) -> AsyncIterator[OpenaiProvider]:
    bounds = {"max_body_bytes": 256 * 1024, "max_event_bytes": 64 * 1024, "max_connections": 2}
    headers = {"authorization": f"Bearer {KEY}"}
    async with HttpUpstream(Endpoint(f"{simulator.url}/v1/", headers, secrets=(KEY,), **bounds)) as upstream:
        yield OpenaiProvider(upstream)


@pytest.mark.parametrize("model", ["crlf", "dribble", "no-done", "paced?interval=0.001&chunks=8"])
async def test_the_answer_does_not_depend_on_how_it_is_framed(provider: OpenaiProvider, model: str):
    payloads, answer = await said(provider, model, stream=True)

    assert text_of(payloads) == "".join(WORDS)
    assert answer.usage is not None


async def test_payloads_are_the_upstreams_own_bytes(provider: OpenaiProvider):
    payloads, _ = await said(provider, "instant", stream=True)

    assert json.loads(payloads[0]).keys() == {"id", "object", "created", "model", "choices"}
    assert payloads[1].startswith(b'{"id": "chatcmpl-simulated", "object": "chat.completion.chunk"')


PLAIN = b'{"choices": [{"delta": {"content": "a"}}], "usage": null}'


@pytest.mark.parametrize(
    ("payloads", "plain"),
    [
        ([PLAIN], True),
        ([PLAIN] * 9, True),
        # In JSON the quotes are escaped, so that the search for fields cannot find them.
        ([json.dumps({"content": '"usage": {} "error"'}).encode()], True),
        ([PLAIN, b'{"usage" : {"prompt_tokens": 1}}', PLAIN], False),
        ([PLAIN, b'{"error": "x"}'], False),
        ([PLAIN, b"not an object"], False),
        ([b"{", b"}"], False),
        ([b"[]", PLAIN], False),
        ([b"{}\n{}", b"}", b"{}"], False),
    ],
)
def test_a_block_of_payloads_is_judged_at_a_glance(payloads: list[bytes], plain: bool):
    assert _are_plain(payloads) is plain


@pytest.mark.parametrize("stream", [True, False])
async def test_an_endless_answer_is_given_up(provider: OpenaiProvider, simulator: UpstreamSimulator, stream: bool):
    with pytest.raises(UpstreamGarbage):
        await said(provider, "huge?bytes=3000000", stream=stream)

    await until(lambda: simulator.in_flight == 0)


async def test_an_endless_error_body_is_not_read(provider: OpenaiProvider, simulator: UpstreamSimulator):
    simulator.padding = 10_000_000

    with pytest.raises(UpstreamFailed) as caught:
        await said(provider, "400", stream=False)

    assert len(caught.value.message) <= 500


async def test_an_upstream_that_nobody_runs_costs_nothing():
    async with HttpUpstream(Endpoint(f"http://127.0.0.1:{free_port()}/v1", {})) as upstream:
        with pytest.raises(UpstreamFailed) as caught:
            await said(OpenaiProvider(upstream), "instant", stream=True)

    assert not caught.value.may_have_cost
    assert not caught.value.again
    assert "127.0.0.1" not in caught.value.message


async def test_what_does_not_speak_http_is_garbage():
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\x01 hello\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpUpstream(Endpoint(f"http://127.0.0.1:{port}", {})) as upstream:
            with pytest.raises(UpstreamGarbage) as caught:
                await said(OpenaiProvider(upstream), "instant", stream=True)

    assert caught.value.may_have_cost


async def test_a_redirect_is_not_followed(provider: OpenaiProvider, simulator: UpstreamSimulator):
    with pytest.raises(UpstreamFailed):
        await said(provider, "302", stream=False)

    assert simulator.received == 1


async def test_a_connection_that_drops_at_once_may_be_tried_again(provider: OpenaiProvider):
    with pytest.raises(UpstreamFailed) as caught:
        await said(provider, "cut-before", stream=True)

    assert caught.value.again
    assert not caught.value.may_have_cost


async def test_a_connection_that_drops_later_may_have_cost_something(
    provider: OpenaiProvider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http, "AT_ONCE_SECONDS", 0)

    with pytest.raises(UpstreamFailed) as caught:
        await said(provider, "cut-before", stream=False)

    assert caught.value.may_have_cost
    assert not caught.value.again
    assert caught.value.fallback


async def test_the_upstreams_wish_to_wait_is_kept(provider: OpenaiProvider):
    with pytest.raises(UpstreamRateLimited) as caught:
        await said(provider, "429", stream=True)

    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 7


async def test_a_stream_that_ends_without_its_mark_and_without_a_reason_is_cut(provider: OpenaiProvider):
    with pytest.raises(UpstreamCut):
        await said(provider, "no-end", stream=True)


async def test_an_answered_connection_is_used_again(provider: OpenaiProvider, simulator: UpstreamSimulator):
    for _ in range(3):
        await said(provider, "instant", stream=True)
        await until(lambda: provider._http._pool._idle)
        await said(provider, "instant", stream=False)

    assert simulator.connections == 1


async def test_an_aborted_connection_is_not_used_again(provider: OpenaiProvider, simulator: UpstreamSimulator):
    answer = await provider.open(a_candidate("silent"), stream=True)
    await answer.read()
    answer.abort()

    await said(provider, "instant", stream=True)

    assert simulator.connections == 2


async def test_a_stale_connection_is_replaced_within_the_plan(provider: OpenaiProvider):
    def run() -> PlanRun:
        upstreams = {"fake": Upstream(FakeCounter(), provider=provider)}
        return PlanRun(a_plan(a_candidate("stale")), upstreams=upstreams, clock=SystemClock(), journal=FakeJournal())

    assert len((await run_to_the_end(run())).finished.attempts) == 1
    said_again = await run_to_the_end(run())

    assert said_again.text == "".join(WORDS)
    assert [attempt.outcome for attempt in said_again.finished.attempts] == [Outcome.REFUSED, Outcome.ANSWERED]


async def test_stop_closes_the_upstreams_connection(provider: OpenaiProvider, simulator: UpstreamSimulator):
    upstreams = {"fake": Upstream(FakeCounter(), provider=provider)}
    plan = a_plan(a_candidate("silent"))
    run = PlanRun(plan, upstreams=upstreams, clock=SystemClock(), journal=FakeJournal())
    asyncio.get_running_loop().call_later(0.1, run.stop)

    said = await run_to_the_end(run)

    await until(lambda: simulator.broken_off == 1)
    assert said.finished.attempts[0].outcome is Outcome.CANCELLED
    assert said.finished.attempts[0].usage.output_tokens == 3


async def test_a_call_that_finds_no_free_connection_in_time_costs_nothing(simulator: UpstreamSimulator):
    endpoint = Endpoint(f"{simulator.url}/v1", {}, connect_timeout=timedelta(seconds=0.05), max_connections=1)
    async with HttpUpstream(endpoint) as upstream:
        provider = OpenaiProvider(upstream)
        answer = await provider.open(a_candidate("silent"), stream=True)

        with pytest.raises(UpstreamFailed) as caught:
            await provider.open(a_candidate(), stream=True)

        assert not caught.value.may_have_cost
        answer.abort()


async def test_a_slow_reader_slows_the_upstream_down(provider: OpenaiProvider, simulator: UpstreamSimulator):
    # 20 MB; what the sockets and aiohttp hold between the two is far less.
    answer = await provider.open(a_candidate("instant?chunks=100000"), stream=True)
    await answer.read()

    await asyncio.sleep(0.3)

    assert simulator.in_flight == 1
    answer.abort()


async def test_a_long_answer_is_read_whole(provider: OpenaiProvider):
    answer = await provider.open(a_candidate("instant?chunks=5000"), stream=True)
    payloads: list[bytes] = []

    await drain(answer, payloads)

    assert len(text_of(payloads).split()) == 5000
