"""One log line per request, without keys and prompts."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from chassis.testing.traces import recorded_spans
from opentelemetry.trace import StatusCode

from services.gateway.tests.fakes.gateway import GatewayFixture, RawRequest, run_loop
from services.gateway.tests.fakes.inference import MODEL_NOT_FOUND, streamed_response

CHAT: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "my secret"}]}


@pytest.fixture
def lines(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Log lines of requests and streams since the last call."""

    def read() -> list[dict[str, Any]]:
        logged = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
        return [line for line in logged if line["module"] == "gateway"]

    return read


Lines = Callable[[], list[dict[str, Any]]]


async def test_a_request_leaves_one_line(gateway: GatewayFixture, demo: httpx.AsyncClient, lines: Lines) -> None:
    await demo.post("/v1/chat/completions", json=CHAT)
    await demo.get("/v1/models/smollm2")

    first, second = lines()
    assert (first["route"], first["status"], first["code"]) == ("/v1/chat/completions", 200, None)
    assert second["route"] == "/v1/models/{model_id:path}"
    assert first["tenant_id"] == second["tenant_id"] == gateway.tenants["demo"]
    assert first["request_id"] != second["request_id"]
    assert "secret" not in str(first)
    assert gateway.keys["demo"] not in str([first, second])


async def test_an_error_is_logged_with_its_code(
    gateway: GatewayFixture, demo: httpx.AsyncClient, anonymous: httpx.AsyncClient, lines: Lines
) -> None:
    gateway.inference.chat = [MODEL_NOT_FOUND]
    responses = [
        await demo.post("/v1/chat/completions", json=CHAT),
        await demo.get("/v1/files/file-none"),
        await anonymous.get("/v1/models"),
        await anonymous.post("/v1/embeddings"),
    ]
    logged = lines()
    assert [line["code"] for line in logged] == [
        "model_not_found",
        "file_not_found",
        "missing_api_key",
        "missing_api_key",
    ]
    assert [line["request_id"] for line in logged] == [response.headers["x-request-id"] for response in responses]


async def test_a_failed_stream_is_logged(gateway: GatewayFixture, demo: httpx.AsyncClient, lines: Lines) -> None:
    gateway.inference.chat = streamed_response()[:2]
    await demo.post("/v1/chat/completions", json=CHAT | {"stream": True})

    failed, request = lines()
    assert (failed["event"], failed["reason"]) == ("stream_failed", "UPSTREAM_INTERRUPTED")
    assert (request["status"], request["code"]) == (200, "upstream_interrupted")
    assert failed["request_id"] == request["request_id"]


async def test_a_clients_trace_continues(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with recorded_spans() as spans:
        responses = [
            await demo.post("/v1/embeddings", json={}, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}),
            await demo.get("/v1/models", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}),
        ]
    hot, native = spans()
    for span, response in ((hot, responses[0]), (native, responses[1])):
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == trace
        attributes = dict(span.attributes or {})
        assert attributes["request_id"] == response.headers["x-request-id"]
        assert attributes["tenant_id"] == gateway.tenants["demo"]
        assert attributes["status"] == response.status_code
    assert dict(hot.attributes or {})["code"] == "invalid_request"
    assert dict(native.attributes or {})["route"] == "/v1/models"


async def test_errors_are_traced_even_in_unsampled_traces(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    trace = {"traceparent": f"00-{'4' * 32}-{'5' * 16}-00"}
    with recorded_spans(ratio=0) as spans:
        await demo.post("/v1/chat/completions", json=CHAT, headers=trace)
        await demo.get("/v1/models")
        assert spans() == []
        gateway.inference.chat = [MODEL_NOT_FOUND]
        await demo.post("/v1/chat/completions", json=CHAT, headers=trace)
        gateway.inference.chat = streamed_response()[:2]
        await demo.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers=trace)
        await demo.get("/v1/files/file-none", headers=trace)

    # The spans of retrieval, which is a fake in this process, have other names.
    failed = [span for span in spans() if span.name.startswith(("GET", "POST"))]
    assert [dict(span.attributes or {})["error.type"] for span in failed] == [
        "MODEL_NOT_FOUND",
        "UPSTREAM_INTERRUPTED",
        "FILE_NOT_FOUND",
    ]
    for span in failed:
        assert span.status.status_code is StatusCode.ERROR
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == "4" * 32
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "5" * 16


async def test_a_disconnect_is_not_traced_as_an_error(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [asyncio.Event()]
    with recorded_spans(ratio=0) as spans:
        request = RawRequest(gateway, "/v1/chat/completions", json.dumps(CHAT).encode())
        await run_loop()
        request.disconnect()
        await request.task

    assert spans() == []
