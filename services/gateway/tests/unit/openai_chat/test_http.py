"""`POST /v1/chat/completions`, answered in one piece."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from chassis.errors import DeadlineExceeded, Kind, RemoteError, Unavailable
from gateway.inference.model import ChatRequest, Chunk, Finished, Started
from values.money import NanoUsd

from services.gateway.tests.fakes.gateway import MAX_CHAT_BYTES, GatewayFixture, RawRequest, run_loop
from services.gateway.tests.fakes.inference import (
    BODY,
    COST,
    MODEL_NOT_FOUND,
    SOURCE,
    STARTED,
    Scripted,
    complete_response,
    reported,
)

PATH = "/v1/chat/completions"
REQUEST: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}


async def test_the_clients_bytes_reach_the_orchestrator_as_they_came(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    body = b'{ "odd": [1.50, "\\u00e9"], "model":"smollm2","messages":[{"role":"user","content":"Hi","x":{}}] }'

    response = await demo.post(PATH, content=body)

    assert response.status_code == 200
    (request,) = gateway.inference.requests
    assert isinstance(request, ChatRequest)
    assert (request.body, request.model, request.stream) == (body, "smollm2", False)
    assert request.request_id == response.headers["x-request-id"]
    assert request.deadline.total_seconds() == 600


async def test_the_providers_body_comes_back_with_the_cost(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    response = await demo.post(PATH, json=REQUEST)

    body = response.json()
    request_id = response.headers["x-request-id"]
    assert body.pop("argosy") == {"request_id": request_id, "cost_usd": "0.0000123", "sources": []}
    assert body == json.loads(BODY)
    assert response.headers["argosy-cost"] == "0.0000123"
    assert response.headers["content-type"] == "application/json"
    assert gateway.inference.streams[0].cancelled  # nothing is left running


async def test_the_response_has_warnings(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = [Started((), False, ("The field x was dropped.",)), *complete_response()[1:]]

    response = await demo.post(PATH, json=REQUEST)

    assert response.json()["argosy"]["warnings"] == ["The field x was dropped."]


async def test_the_response_has_sources_and_the_soft_limit(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = complete_response(sources=[SOURCE], soft_limit_passed=True)

    response = await demo.post(PATH, json=REQUEST)

    (source,) = response.json()["argosy"]["sources"]
    assert (source["number"], source["filename"], source["page"]) == (1, "guide.pdf", 3)
    assert response.headers["argosy-soft-limit-passed"] == "true"


async def test_the_orchestrator_is_called_for_the_tenant_of_the_key(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    response = await demo.post(PATH, json=REQUEST)

    (caller,) = gateway.inference.callers
    assert caller.principal.tenant_id == gateway.tenants["demo"]
    assert caller.principal.roles == {"member"}
    assert caller.token
    assert caller.request_id == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([MODEL_NOT_FOUND], (404, "model_not_found")),
        ([RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "Spent.")], (429, "insufficient_quota")),
        ([Unavailable("metering does not answer")], (503, "service_unavailable")),
        ([STARTED, DeadlineExceeded("too late")], (504, "deadline_exceeded")),
        ([STARTED, RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "500")], (502, "upstream_failed")),
        ([STARTED], (502, "upstream_interrupted")),
        ([], (502, "upstream_interrupted")),
        (
            [
                STARTED,
                Finished(reported(0, 0), NanoUsd(0), RemoteError(Kind.THROTTLED, "UPSTREAM_RATE_LIMITED", "429")),
            ],
            (429, "upstream_rate_limited"),
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_byte_has_a_status(
    gateway: GatewayFixture, demo: httpx.AsyncClient, script: list[Scripted], expected: tuple[int, str], stream: bool
) -> None:
    gateway.inference.chat = script

    response = await demo.post(PATH, json=REQUEST | {"stream": stream})

    assert (response.status_code, response.json()["error"]["code"]) == expected
    assert response.headers["x-request-id"].startswith("req_")
    assert "argosy-cost" not in response.headers


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([STARTED, Chunk([BODY])], "upstream_interrupted"),
        ([Chunk([b"[1]"]), Finished(reported(1, 1), COST)], "upstream_invalid_response"),
        ([Chunk([b""]), Finished(reported(1, 1), COST)], "upstream_invalid_response"),
    ],
)
async def test_an_incomplete_response_is_an_error(
    gateway: GatewayFixture, demo: httpx.AsyncClient, script: list[Scripted], code: str
) -> None:
    gateway.inference.chat = script

    response = await demo.post(PATH, json=REQUEST)

    assert (response.status_code, response.json()["error"]["code"]) == (502, code)


async def test_an_empty_object_is_an_answer_too(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = [STARTED, Chunk([b" { } \n"]), Finished(reported(1, 1), COST)]

    response = await demo.post(PATH, json=REQUEST)

    assert list(response.json()) == ["argosy"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b'{"model":"m","messages":[]} x', b'{"a":' * 100_000, b'{"model":"\xff"}']
)
async def test_what_is_not_json_is_refused(gateway: GatewayFixture, demo: httpx.AsyncClient, body: bytes) -> None:
    response = await demo.post(PATH, content=body[:MAX_CHAT_BYTES])

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")
    assert not gateway.inference.requests


async def test_a_body_nested_too_deeply_is_refused_before_it_does_harm(demo: httpx.AsyncClient) -> None:
    deep = b"[" * 1_900 + b"]" * 1_900
    response = await demo.post(PATH, content=b'{"model":"m","messages":[],"x":' + deep + b"}")

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_body_that_is_too_large_is_refused(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    response = await demo.post(PATH, content=b" " * (MAX_CHAT_BYTES + 1))

    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert not gateway.inference.requests


async def test_a_content_type_that_is_not_json_does_not_matter(demo: httpx.AsyncClient) -> None:
    response = await demo.post(PATH, content=json.dumps(REQUEST), headers={"content-type": "text/plain"})

    assert response.status_code == 200


async def test_a_disconnect_while_waiting_cancels_the_completion(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [STARTED, asyncio.Event()]
    request = RawRequest(gateway, PATH, json.dumps(REQUEST).encode())
    await run_loop()

    request.disconnect()
    await request.task

    assert gateway.inference.streams[0].cancelled
    assert request.sent.empty()


async def test_a_disconnect_while_sending_gets_no_response(gateway: GatewayFixture) -> None:
    request = RawRequest(gateway, PATH, b"")
    request.set_body(b'{"model":')
    request.disconnect()
    await request.task

    assert request.sent.empty()
    assert not gateway.inference.requests


async def test_another_cancellation_is_not_a_disconnect(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [asyncio.Event()]
    request = RawRequest(gateway, PATH, json.dumps(REQUEST).encode())
    await run_loop()

    request.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request.task
    assert gateway.inference.streams[0].cancelled
