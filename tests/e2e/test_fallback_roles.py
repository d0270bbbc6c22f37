"""A refusal leads to the fallbacks of its kind, a cheap answer of no use to the next model; and who pays."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.fleet.client import Fleet, created

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180), pytest.mark.xdist_group("simulator")]

REASON = {"reason": "a test"}
PRICE = {"input_per_million_nano_usd": 1_000_000_000, "output_per_million_nano_usd": 2_000_000_000}
FILTERED, TOO_LONG = "400?code=content_filter", "400?code=context_length_exceeded"
FOR_CONTENT, FOR_CONTEXT, OTHER, PLAIN, TOOLS = (
    *("instant?chunks=3", "instant?chunks=5", "instant?chunks=7"),
    *("instant?chunks=9", "tools"),
)
MODELS = (FILTERED, TOO_LONG, FOR_CONTENT, FOR_CONTEXT, OTHER, PLAIN, TOOLS)


def candidates(*models: str) -> list[dict[str, str]]:
    return [{"upstream": "simulator", "model": model} for model in models]


FALLBACKS = {"content_policy": candidates(FOR_CONTENT), "context_overflow": candidates(FOR_CONTEXT)}


@pytest.fixture
async def admin(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator, and prices for the models."""
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as client:
        for model in MODELS:
            created(await client.post("/admin/v1/prices", json={"price_key": f"simulator/{model}", **PRICE}))
        yield client


async def add_route(fleet: Fleet, admin: httpx.AsyncClient, *models: str, **fields: Any) -> str:
    """Put a route of these candidates in force; return its name."""
    name = f"sim-roles-{secrets.token_hex(4)}"
    created(await admin.put(f"/admin/v1/routes/{name}", json={**REASON, "candidates": candidates(*models), **fields}))
    await fleet.wait_until_listed(name)
    return name


async def ask(fleet: Fleet, model: str, **fields: Any) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """Send a request; return its answer, and its settlements."""
    body = {"model": model, "max_tokens": 32, "messages": [{"role": "user", "content": "Hello"}], **fields}
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as http:
        answer = await http.post("/v1/chat/completions", json=body)
        statement = await fleet.statement_of(http, answer.headers["x-request-id"])
    return answer, sorted(statement["settlements"], key=lambda one: int(one["attempt"]))


def billed(settlements: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    return [(one["outcome"], int(one["cost_nano_usd"]) > 0) for one in settlements]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("refusing", "chunks"), [(FILTERED, 3), (TOO_LONG, 5)], ids=["content", "context"])
async def test_a_refusal_of_the_provider_leads_to_the_fallback_of_its_kind(
    fleet: Fleet, admin: httpx.AsyncClient, refusing: str, chunks: int, stream: bool
) -> None:
    model = await add_route(fleet, admin, refusing, OTHER, fallbacks=FALLBACKS)
    answer, settlements = await ask(fleet, model, stream=stream)

    assert answer.status_code == 200, answer.text
    assert f"instant?chunks={chunks}" in answer.text
    assert billed(settlements) == [("released", False), ("billed", True)]


async def test_without_a_fallback_of_its_kind_a_content_policy_is_final_and_a_context_is_not(
    fleet: Fleet, admin: httpx.AsyncClient
) -> None:
    filtered = await add_route(fleet, admin, FILTERED, OTHER)
    too_long = await add_route(fleet, admin, TOO_LONG, OTHER)
    refused, refused_books = await ask(fleet, filtered)
    answer, books = await ask(fleet, too_long)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert billed(refused_books) == [("released", False)]
    assert answer.status_code == 200, answer.text
    assert OTHER in answer.text
    assert billed(books) == [("released", False), ("billed", True)]


async def test_an_easy_request_whose_cheap_answer_is_of_no_use_is_answered_by_the_next_model_and_both_are_billed(
    fleet: Fleet, admin: httpx.AsyncClient
) -> None:
    model = await add_route(fleet, admin, TOOLS, PLAIN, right_sizing={"cheap": [f"simulator/{PLAIN}"]})
    good, good_books = await ask(fleet, model)
    escalated, books = await ask(fleet, model, response_format={"type": "json_object"})

    assert PLAIN in good.text
    assert billed(good_books) == [("billed", True)]
    assert escalated.status_code == 200, escalated.text
    assert escalated.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert billed(books) == [("billed", True), ("billed", True)]
