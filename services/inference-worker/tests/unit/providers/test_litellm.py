"""Responses with status 200 that litellm cannot read: they were paid for, and are no fault of the client."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web
from chassis.clock import SystemClock
from inference_worker.plans.model import AttemptOutcome, Candidate, Plan
from inference_worker.plans.run import PlanRun
from inference_worker.providers.litellm import LitellmProvider
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from inference_worker.providers.ports import Upstream
from inference_worker.token_counting.model import NullTokenCounter
from values.usage import UsageSource
from worker_fakes import FakeObserver, a_body

pytestmark = [
    pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class .* is using the `ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_.*fields' attribute on the instance is deprecated"),
]

MESSAGE = {"role": "assistant", "content": "hello"}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}

BODIES: list[dict[str, object]] = [
    {"choices": None},
    {"choices": []},
    {"choices": {}},
    {"choices": [None]},
    {"choices": ["text"]},
    {"choices": [{"index": 0, "message": "text"}]},
    {"choices": [{"index": "first", "message": {"role": "assistant", "content": {"a": 1}}}]},
    {"choices": [{"index": 0, "message": {"content": "a", "tool_calls": [{"function": 7}]}}]},
    {"choices": [CHOICE], "usage": {"prompt_tokens": "three", "completion_tokens": {}}},
    {"error": {"message": "no", "code": 400}, "choices": []},
]

UNREADABLE = [
    b"",
    b"<html>It works!</html>",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b"{}",
    *(
        json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", **fields}).encode()
        for fields in BODIES
    ),
]


@asynccontextmanager
async def upstream(body: bytes, status: int = 200) -> AsyncIterator[str]:
    """Serve one response to every call, and see that there was one."""
    received: list[str] = []

    async def respond(request: web.Request) -> web.Response:
        received.append(request.path)
        return web.Response(body=body, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        assert received
    finally:
        await runner.cleanup()


def make_run(name: str, url: str, *, stream: bool = False) -> PlanRun:
    provider = LitellmProvider(name, url, {"api_key": "a-key-of-ours-and-long"})
    # The first call loads litellm.
    seconds = timedelta(seconds=120)
    plan = Plan((Candidate("up", "m", a_body("m", stream=stream)),), stream, seconds, seconds, seconds)
    upstreams = {"up": Upstream(NullTokenCounter(), provider=provider)}
    return PlanRun(plan, upstreams=upstreams, clock=SystemClock(), observer=FakeObserver())


async def ignore(_: object) -> None:
    pass


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "mistral", "groq", "ollama_chat"])
@pytest.mark.parametrize("body", UNREADABLE)
async def test_an_unreadable_answer_is_the_upstreams_and_of_unknown_usage(name: str, body: bytes) -> None:
    async with upstream(body) as url:
        finished = await make_run(name, url).run(ignore)

    if finished.error is None:
        # Readable for litellm: then it is an answer, whose usage is not counted by the null counter.
        assert name != "openai"
        return
    (attempt,) = finished.attempts
    assert (type(finished.error), attempt.outcome) == (UpstreamProtocolError, AttemptOutcome.INTERRUPTED)
    assert attempt.usage.source is UsageSource.UNKNOWN


async def test_an_answer_without_choices_counts_the_usage_that_it_reports() -> None:
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [], "usage": USAGE}
    async with upstream(json.dumps(body).encode()) as url:
        finished = await make_run("openai", url).run(ignore)

    assert isinstance(finished.error, UpstreamProtocolError)
    assert finished.attempts[0].usage.known == (3, 4)


@pytest.mark.parametrize("body", [b"", b"data: {\n\n", b"data: []\n\n", b"<html>", b'data: {"choices": 7}\n\n'])
async def test_an_unreadable_stream_is_the_upstreams_and_of_unknown_usage(body: bytes) -> None:
    async with upstream(body) as url:
        finished = await make_run("openai", url, stream=True).run(ignore)

    assert isinstance(finished.error, UpstreamFailed)
    assert finished.error.reason == "UPSTREAM_INVALID_RESPONSE"
    assert finished.attempts[0].usage.source is UsageSource.UNKNOWN


@pytest.mark.parametrize(("status", "error"), [(429, UpstreamRateLimited), (500, UpstreamFailed)])
async def test_a_status_is_taken_from_the_wire_and_not_from_the_body(status: int, error: type[UpstreamFailed]) -> None:
    async with upstream(b'{"error": {"message": "no", "code": 400}}', status) as url:
        finished = await make_run("openai", url).run(ignore)

    assert type(finished.error) is error
    assert finished.attempts[0].outcome is AttemptOutcome.REJECTED


async def test_an_upstream_that_cannot_be_reached_costs_nothing() -> None:
    finished = await make_run("openai", "http://127.0.0.1:1/v1").run(ignore)

    assert type(finished.error) is UpstreamFailed
    assert finished.attempts[0].outcome is AttemptOutcome.REJECTED


@pytest.mark.parametrize("image", [{"url": "https://example.org/a.png"}, "http://example.org/a"])
async def test_a_link_that_litellm_would_follow_is_left_to_another_candidate(image: object) -> None:
    provider = LitellmProvider("gemini", "http://127.0.0.1:1", {"api_key": "a-key-of-ours-and-long"})
    content = [{"type": "image_url", "image_url": image}]
    body = a_body("m", messages=[{"role": "user", "content": content}])

    with pytest.raises(UpstreamRejected) as caught:
        await provider.open("m", body, stream=False)

    assert caught.value.fallback
