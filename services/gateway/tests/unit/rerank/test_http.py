"""`POST /v1/rerank`."""

from typing import Any

import httpx
import pytest
from chassis.errors import ArgosyError, Kind, RemoteError, Unavailable
from gateway.inference.model import RerankRequest

from services.gateway.tests.fakes.gateway import GatewayFixture

PATH = "/v1/rerank"
DOCUMENTS = ["an invoice", "a ship sails", "a harbour"]


def a_body(**more: Any) -> dict[str, Any]:
    return {"model": "scorer", "query": "a ship", "documents": DOCUMENTS, **more}


async def test_documents_come_best_first_with_their_cost(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.scores = [0.25, 1.0, 0.5]

    response = await demo.post(PATH, json=a_body())

    body = response.json()
    assert body["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "a ship sails"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "a harbour"}},
        {"index": 0, "relevance_score": 0.25, "document": {"text": "an invoice"}},
    ]
    assert (body["object"], body["model"]) == ("list", "scorer")
    assert body["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert body["argosy"]["cost_usd"] == response.headers["argosy-cost"] == "0.0000123"
    (request,) = gateway.inference.requests
    expected = RerankRequest(response.headers["x-request-id"], "scorer", "a ship", DOCUMENTS, request.deadline)
    assert request == expected


async def test_only_the_best_are_returned_and_without_their_texts_when_asked_to(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.inference.scores = [0.25, 1.0, 0.5]

    two = (await demo.post(PATH, json=a_body(top_n=2, return_documents=False))).json()
    more = (await demo.post(PATH, json=a_body(top_n=50))).json()

    assert two["results"] == [{"index": 1, "relevance_score": 1.0}, {"index": 2, "relevance_score": 0.5}]
    assert len(more["results"]) == 3


async def test_documents_may_be_objects_and_those_of_equal_scores_keep_their_order(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.inference.scores = [0.5, 0.5, 0.5]

    documents = [{"text": "an invoice", "id": 7}, "a ship sails", {"text": "a harbour"}]
    body = (await demo.post(PATH, json=a_body(documents=documents))).json()

    assert [one["index"] for one in body["results"]] == [0, 1, 2]
    assert [one["document"]["text"] for one in body["results"]] == DOCUMENTS


async def test_fields_of_other_services_do_not_hurt(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.scores = [0.25, 1.0, 0.5]

    response = await demo.post(PATH, json=a_body(truncation=True, max_tokens_per_doc=512, user="u"))

    assert response.status_code == 200


async def test_a_wrong_number_of_scores_is_an_invalid_response(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.inference.scores = [0.25]

    response = await demo.post(PATH, json=a_body())

    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_invalid_response")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable("away"), 503, "service_unavailable"),
        (RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "no"), 404, "model_not_found"),
        (RemoteError(Kind.INVALID, "CONTEXT_LENGTH_EXCEEDED", "long"), 400, "context_length_exceeded"),
        (RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "no"), 429, "insufficient_quota"),
    ],
)
async def test_an_error_keeps_its_status(
    gateway: GatewayFixture, demo: httpx.AsyncClient, error: ArgosyError, status: int, code: str
) -> None:
    gateway.inference.scores = error

    response = await demo.post(PATH, json=a_body())

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": ""}, "model"),
        ({"query": ""}, "query"),
        ({"query": " \n"}, "query"),
        ({"query": 7}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": [{"text": ""}]}, "documents[0]"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": ["a"] * 1001}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
    ],
)
async def test_what_cannot_be_scored_does_not_reach_the_orchestrator(
    gateway: GatewayFixture, demo: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await demo.post(PATH, json=a_body(**body))

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not gateway.inference.requests


async def test_searches_are_no_tokens_and_what_is_odd_is_said(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.scores, gateway.inference.search_units = [0.25, 1.0, 0.5], 9
    gateway.inference.score_warnings = ["One document has no score."]

    body = (await demo.post(PATH, json=a_body())).json()

    assert body["usage"] == {"prompt_tokens": 0, "total_tokens": 0, "search_units": 9}
    assert body["argosy"]["warnings"] == ["One document has no score."]
