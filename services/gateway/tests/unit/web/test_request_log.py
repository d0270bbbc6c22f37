"""One line per request: who, what, how it went; no key, no prompt."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from chassis.testing.traces import recorded_spans
from opentelemetry.trace import StatusCode

from services.gateway.tests.fakes.inference import NO_MODEL, streamed_answer
from services.gateway.tests.fakes.world import Visit, World, turns

CHAT: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "my secret"}]}


@pytest.fixture
def lines(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """What was logged since the last look."""
    return lambda: [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]


Lines = Callable[[], list[dict[str, Any]]]


async def test_a_request_leaves_one_line(world: World, demo: httpx.AsyncClient, lines: Lines) -> None:
    await demo.post("/v1/chat/completions", json=CHAT)
    await demo.get("/v1/models/smollm2")

    first, second = lines()
    assert (first["route"], first["status"], first["code"]) == ("/v1/chat/completions", 200, None)
    assert second["route"] == "/v1/models/{model_id:path}"
    assert first["tenant_id"] == second["tenant_id"] == world.tenants["demo"]
    assert first["request_id"] != second["request_id"]
    assert "secret" not in str(first)
    assert world.keys["demo"] not in str([first, second])


async def test_a_refusal_leaves_its_code(
    world: World, demo: httpx.AsyncClient, nobody: httpx.AsyncClient, lines: Lines
) -> None:
    world.inference.chat = [NO_MODEL]
    answers = [
        await demo.post("/v1/chat/completions", json=CHAT),
        await demo.get("/v1/files/file-none"),
        await nobody.get("/v1/models"),
        await nobody.post("/v1/embeddings"),
    ]
    logged = lines()
    assert [line["code"] for line in logged] == [
        "model_not_found",
        "file_not_found",
        "missing_api_key",
        "missing_api_key",
    ]
    assert [line["request_id"] for line in logged] == [answer.headers["x-request-id"] for answer in answers]


async def test_a_stream_that_breaks_says_so(world: World, demo: httpx.AsyncClient, lines: Lines) -> None:
    world.inference.chat = streamed_answer()[:2]
    await demo.post("/v1/chat/completions", json=CHAT | {"stream": True})

    broken, request = lines()
    assert (broken["event"], broken["reason"]) == ("stream_broke", "UPSTREAM_CUT")
    assert (request["status"], request["code"]) == (200, "upstream_cut")
    assert broken["request_id"] == request["request_id"]


async def test_a_clients_trace_goes_on_with_the_requests_facts(world: World, demo: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with recorded_spans() as spans:
        answers = [
            await demo.post("/v1/embeddings", json={}, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}),
            await demo.get("/v1/models", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}),
        ]
    hot, native = spans()
    for span, answer in ((hot, answers[0]), (native, answers[1])):
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == trace
        attributes = dict(span.attributes or {})
        assert attributes["request_id"] == answer.headers["x-request-id"]
        assert attributes["tenant_id"] == world.tenants["demo"]
        assert attributes["status"] == answer.status_code
    assert dict(hot.attributes or {})["code"] == "invalid_request"
    assert dict(native.attributes or {})["route"] == "/v1/models"


async def test_what_fails_is_traced_though_its_trace_is_not_kept(world: World, demo: httpx.AsyncClient) -> None:
    trace = {"traceparent": f"00-{'4' * 32}-{'5' * 16}-00"}
    with recorded_spans(ratio=0) as spans:
        await demo.post("/v1/chat/completions", json=CHAT, headers=trace)
        await demo.get("/v1/models")
        assert spans() == []
        world.inference.chat = [NO_MODEL]
        await demo.post("/v1/chat/completions", json=CHAT, headers=trace)
        world.inference.chat = streamed_answer()[:2]
        await demo.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers=trace)
        await demo.get("/v1/files/file-none", headers=trace)

    failed = spans()
    assert [dict(span.attributes or {})["error.type"] for span in failed] == [
        "MODEL_NOT_FOUND",
        "UPSTREAM_CUT",
        "FILE_NOT_FOUND",
    ]
    for span in failed:
        assert span.status.status_code is StatusCode.ERROR
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == "4" * 32
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "5" * 16


async def test_a_client_that_leaves_is_no_failure(world: World) -> None:
    world.inference.chat = [asyncio.Event()]
    with recorded_spans(ratio=0) as spans:
        visit = Visit(world, "/v1/chat/completions", json.dumps(CHAT).encode())
        await turns()
        visit.leave()
        await visit.task

    assert spans() == []
