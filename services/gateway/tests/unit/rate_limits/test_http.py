"""Rate limits as clients see them: OpenAI's headers, a 429 that says when to come back."""

from typing import Any

import httpx
import openai
import pytest
from chassis.testing.traces import recorded_spans
from gateway.api.rates import written_duration
from gateway.domain.rates import Rates
from gateway.metrics import RATE_LIMITED

from services.gateway.tests.fakes.world import World, a_world

CHAT: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
async def world() -> World:
    """Everybody may send two requests a minute with a key, three in all."""
    return await a_world(Rates(key=2, tenant=3))


def rates_of(answer: httpx.Response) -> list[str | None]:
    """Limit, remaining, reset."""
    return [answer.headers.get(f"x-ratelimit-{name}-requests") for name in ("limit", "remaining", "reset")]


async def test_answers_say_how_much_is_left(demo: httpx.AsyncClient) -> None:
    first = await demo.post(PATH, json=CHAT)
    second = await demo.post("/v1/embeddings", json={"model": "m", "input": ""})

    assert (first.status_code, rates_of(first)) == (200, ["2", "1", "30s"])
    assert (second.status_code, rates_of(second)) == (400, ["2", "0", "1m0s"])


async def test_a_stream_says_so_too(demo: httpx.AsyncClient, world: World) -> None:
    answer = await demo.post(PATH, json=CHAT | {"stream": True})

    assert rates_of(answer) == ["2", "1", "30s"]


async def test_who_sends_too_much_is_told_when_to_come_back(demo: httpx.AsyncClient, world: World) -> None:
    before = RATE_LIMITED.labels("key")._value.get()
    with recorded_spans() as spans:
        refused = [await demo.post(PATH, json=CHAT) for _ in range(3)][-1]

    assert refused.status_code == 429
    assert refused.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert refused.headers["retry-after"] == "30"
    assert "x-should-retry" not in refused.headers
    assert refused.headers["x-request-id"].startswith("req_")
    assert rates_of(refused) == ["2", "0", "1m0s"]
    assert len(world.inference.asked) == 2
    assert len(spans()) == 2
    assert RATE_LIMITED.labels("key")._value.get() == before + 1


async def test_tenants_are_counted_apart(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    for _ in range(3):
        await demo.post(PATH, json=CHAT)

    assert (await other.post(PATH, json=CHAT)).status_code == 200


async def test_a_strangers_request_counts_for_nobody(nobody: httpx.AsyncClient) -> None:
    for _ in range(5):
        answer = await nobody.post(PATH, json=CHAT)
        assert (answer.status_code, rates_of(answer)) == (401, [None, None, None])


async def test_routes_that_infer_nothing_are_not_limited(demo: httpx.AsyncClient) -> None:
    answers = [await demo.get("/v1/models") for _ in range(5)]

    assert {answer.status_code for answer in answers} == {200}
    assert rates_of(answers[0]) == [None, None, None]


async def test_without_redis_each_replica_lets_its_share_in(demo: httpx.AsyncClient, world: World) -> None:
    world.rates.down = True
    answers = [await demo.post(PATH, json=CHAT) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert rates_of(answers[0]) == ["1", "0", "1m0s"]


async def test_without_limits_nothing_is_said_of_them() -> None:
    async with (await a_world()).client() as client:
        assert rates_of(await client.post(PATH, json=CHAT)) == [None, None, None]


async def test_openais_own_client_knows_the_refusal(world: World) -> None:
    client = openai.AsyncOpenAI(
        api_key=world.keys["demo"],
        base_url="http://gateway/v1",
        http_client=httpx.AsyncClient(transport=httpx.ASGITransport(world.app)),
        max_retries=0,
    )
    ask = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}]}
    raw = await client.chat.completions.with_raw_response.create(**ask)  # type: ignore[call-overload]
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"
    await client.chat.completions.create(**ask)  # type: ignore[call-overload]
    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(**ask)  # type: ignore[call-overload]

    assert refused.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, b"0ms"), (0.0001, b"1ms"), (0.02, b"20ms"), (1, b"1s"), (8.64, b"8.64s"), (60, b"1m0s"), (360.5, b"6m0.5s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: bytes) -> None:
    assert written_duration(seconds) == text
