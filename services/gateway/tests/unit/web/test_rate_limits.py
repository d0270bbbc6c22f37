"""Rate limits as clients see them: OpenAI's headers, and a 429 with `retry-after`."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from chassis.testing.traces import recorded_spans
from gateway.rate_limits.limiter import ClassRateLimits
from gateway.web.response import format_duration

from services.gateway.tests.fakes.gateway import GatewayFixture, metric, run_gateway

CHAT: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayFixture]:
    """Two requests a minute for a key, three for a tenant."""
    async with run_gateway(ClassRateLimits(key=2, tenant=3)) as gateway:
        yield gateway


def rate_limit_headers(response: httpx.Response) -> list[str | None]:
    """Limit, remaining, reset."""
    return [response.headers.get(f"x-ratelimit-{name}-requests") for name in ("limit", "remaining", "reset")]


async def test_responses_have_the_remaining_requests(demo: httpx.AsyncClient) -> None:
    first = await demo.post(PATH, json=CHAT)
    second = await demo.post("/v1/embeddings", json={"model": "m", "input": ""})

    assert (first.status_code, rate_limit_headers(first)) == (200, ["2", "1", "30s"])
    assert (second.status_code, rate_limit_headers(second)) == (400, ["2", "0", "1m0s"])


async def test_streams_have_them_too(demo: httpx.AsyncClient, gateway: GatewayFixture) -> None:
    response = await demo.post(PATH, json=CHAT | {"stream": True})

    assert rate_limit_headers(response) == ["2", "1", "30s"]


async def test_a_client_over_its_limit_gets_a_429_with_retry_after(
    demo: httpx.AsyncClient, gateway: GatewayFixture
) -> None:
    before = metric("gateway_rate_limited_total", scope="key")
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
    assert rate_limit_headers(refused) == ["2", "0", "1m0s"]
    assert len(gateway.inference.requests) == 2
    assert len(spans()) == 2
    assert metric("gateway_rate_limited_total", scope="key") == before + 1


async def test_tenants_are_counted_apart(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    for _ in range(3):
        await demo.post(PATH, json=CHAT)

    assert (await other.post(PATH, json=CHAT)).status_code == 200


async def test_requests_without_a_key_are_not_counted(anonymous: httpx.AsyncClient) -> None:
    for _ in range(5):
        response = await anonymous.post(PATH, json=CHAT)
        assert (response.status_code, rate_limit_headers(response)) == (401, [None, None, None])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("HEAD", "/v1/files"),
        ("DELETE", "/v1/files/file-1"),
        ("POST", "/v1/files"),
        ("GET", "/x"),
    ],
)
async def test_every_route_with_a_key_is_counted(demo: httpx.AsyncClient, method: str, path: str) -> None:
    responses = [await demo.request(method, path) for _ in range(3)]

    assert [rate_limit_headers(response)[:2] for response in responses] == [["2", "1"], ["2", "0"], ["2", "0"]]
    assert 429 not in {response.status_code for response in responses[:2]}
    assert (responses[2].status_code, responses[2].headers["retry-after"]) == (429, "30")


async def test_classes_of_requests_are_counted_apart(demo: httpx.AsyncClient) -> None:
    for _ in range(3):
        await demo.get("/v1/models")

    for method, path in (("POST", PATH), ("POST", "/v1/vector_stores"), ("POST", "/v1/files")):
        response = await demo.request(method, path, json=CHAT)
        assert response.headers["x-ratelimit-remaining-requests"] == "1", path


async def test_administrators_are_counted_too(gateway: GatewayFixture) -> None:
    async with gateway.client("platform") as admin:
        responses = [await admin.get("/admin/v1/tenants") for _ in range(3)]

    assert [response.status_code for response in responses] == [200, 200, 429]


async def test_without_redis_each_replica_allows_its_share(demo: httpx.AsyncClient, gateway: GatewayFixture) -> None:
    gateway.rate_limits.down = True
    responses = [await demo.post(PATH, json=CHAT) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 429]
    assert rate_limit_headers(responses[0]) == ["1", "0", "1m0s"]


async def test_without_limits_there_are_no_headers() -> None:
    async with run_gateway() as unlimited, unlimited.client() as client:
        assert rate_limit_headers(await client.post(PATH, json=CHAT)) == [None, None, None]


async def test_openais_client_raises_its_rate_limit_error(gateway: GatewayFixture) -> None:
    client = openai.AsyncOpenAI(
        api_key=gateway.keys["demo"],
        base_url="http://gateway/v1",
        http_client=httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app)),
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
    assert format_duration(seconds) == text
