"""`POST /v1/chat/completions`, answered in one piece."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from chassis.errors import DeadlineExceeded, Kind, RemoteError, Unavailable
from gateway.domain.inference import Begun, ChatAsk, Finished, Payloads, Tokens
from gateway.domain.money import NanoUsd

from services.gateway.tests.fakes.inference import BODY, COST, NO_MODEL, SOURCE, Scripted, whole_answer
from services.gateway.tests.fakes.world import CHAT_BYTES, Visit, World, turns

PATH = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}


async def test_the_clients_bytes_reach_the_orchestrator_as_they_came(world: World, demo: httpx.AsyncClient) -> None:
    body = b'{ "odd": [1.50, "\\u00e9"], "model":"smollm2","messages":[{"role":"user","content":"Hi","x":{}}] }'

    answer = await demo.post(PATH, content=body)

    assert answer.status_code == 200
    (ask,) = world.inference.asked
    assert isinstance(ask, ChatAsk)
    assert (ask.body, ask.model, ask.stream) == (body, "smollm2", False)
    assert ask.request_id == answer.headers["x-request-id"]
    assert ask.deadline.total_seconds() == 600


async def test_the_providers_body_comes_back_whole_with_the_bill(world: World, demo: httpx.AsyncClient) -> None:
    answer = await demo.post(PATH, json=ASKED)

    said = answer.json()
    request_id = answer.headers["x-request-id"]
    assert said.pop("argosy") == {"request_id": request_id, "cost_usd": "0.0000123", "sources": []}
    assert said == json.loads(BODY)
    assert answer.headers["argosy-cost"] == "0.0000123"
    assert answer.headers["content-type"] == "application/json"
    assert world.inference.answers[0].cancelled  # nothing is left running


async def test_sources_and_the_soft_limit_are_told(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = whole_answer(sources=[SOURCE], soft_limit_passed=True)

    answer = await demo.post(PATH, json=ASKED)

    (source,) = answer.json()["argosy"]["sources"]
    assert (source["number"], source["filename"], source["page"]) == (1, "guide.pdf", 3)
    assert answer.headers["argosy-soft-limit-passed"] == "true"


async def test_downstream_acts_for_the_tenant_of_the_key(world: World, demo: httpx.AsyncClient) -> None:
    answer = await demo.post(PATH, json=ASKED)

    (caller,) = world.inference.callers
    assert caller.principal.tenant_id == world.tenants["demo"]
    assert caller.principal.roles == {"member"}
    assert caller.token
    assert caller.request_id == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("script", "refusal"),
    [
        ([NO_MODEL], (404, "model_not_found")),
        ([RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "Spent.")], (429, "insufficient_quota")),
        ([Unavailable("metering does not answer")], (503, "service_unavailable")),
        ([Begun((), False), DeadlineExceeded("too late")], (504, "deadline_exceeded")),
        ([Begun((), False), RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "500")], (502, "upstream_failed")),
        ([Begun((), False)], (502, "upstream_cut")),
        ([], (502, "upstream_cut")),
        (
            [
                Begun((), False),
                Finished(Tokens(0, 0), NanoUsd(0), RemoteError(Kind.THROTTLED, "UPSTREAM_RATE_LIMITED", "429")),
            ],
            (429, "upstream_rate_limited"),
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_before_the_first_byte_has_a_status(
    world: World, demo: httpx.AsyncClient, script: list[Scripted], refusal: tuple[int, str], stream: bool
) -> None:
    world.inference.chat = script

    answer = await demo.post(PATH, json=ASKED | {"stream": stream})

    assert (answer.status_code, answer.json()["error"]["code"]) == refusal
    assert answer.headers["x-request-id"].startswith("req_")
    assert "argosy-cost" not in answer.headers


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([Begun((), False), Payloads([BODY])], "upstream_cut"),
        ([Payloads([b"[1]"]), Finished(Tokens(1, 1), COST)], "upstream_garbage"),
        ([Payloads([b""]), Finished(Tokens(1, 1), COST)], "upstream_garbage"),
    ],
)
async def test_half_an_answer_is_none(world: World, demo: httpx.AsyncClient, script: list[Scripted], code: str) -> None:
    world.inference.chat = script

    answer = await demo.post(PATH, json=ASKED)

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, code)


async def test_an_empty_object_is_an_answer_too(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = [Begun((), False), Payloads([b" { } \n"]), Finished(Tokens(1, 1), COST)]

    answer = await demo.post(PATH, json=ASKED)

    assert list(answer.json()) == ["argosy"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b'{"model":"m","messages":[]} x', b'{"a":' * 100_000, b'{"model":"\xff"}']
)
async def test_what_is_not_json_is_refused(world: World, demo: httpx.AsyncClient, body: bytes) -> None:
    answer = await demo.post(PATH, content=body[:CHAT_BYTES])

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert not world.inference.asked


async def test_a_body_nested_too_deeply_is_refused_before_it_does_harm(demo: httpx.AsyncClient) -> None:
    deep = b"[" * 1_900 + b"]" * 1_900
    answer = await demo.post(PATH, content=b'{"model":"m","messages":[],"x":' + deep + b"}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_body_that_is_too_large_is_refused(world: World, demo: httpx.AsyncClient) -> None:
    answer = await demo.post(PATH, content=b" " * (CHAT_BYTES + 1))

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert not world.inference.asked


async def test_a_content_type_that_is_not_json_does_not_matter(demo: httpx.AsyncClient) -> None:
    answer = await demo.post(PATH, content=json.dumps(ASKED), headers={"content-type": "text/plain"})

    assert answer.status_code == 200


async def test_a_client_that_leaves_while_it_waits_cancels_the_work(world: World) -> None:
    world.inference.chat = [Begun((), False), asyncio.Event()]
    visit = Visit(world, PATH, json.dumps(ASKED).encode())
    await turns()

    visit.leave()
    await visit.task

    assert world.inference.answers[0].cancelled
    assert visit.sent.empty()


async def test_a_client_that_leaves_while_it_sends_is_not_answered(world: World) -> None:
    visit = Visit(world, PATH, b"")
    visit.feed(b'{"model":')
    visit.leave()
    await visit.task

    assert visit.sent.empty()
    assert not world.inference.asked


async def test_another_cancellation_is_not_taken_for_a_client_that_left(world: World) -> None:
    world.inference.chat = [asyncio.Event()]
    visit = Visit(world, PATH, json.dumps(ASKED).encode())
    await turns()

    visit.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await visit.task
    assert world.inference.answers[0].cancelled
