"""`/v1/vector_stores/{id}/search`."""

import asyncio
from typing import Any

import httpx
import pytest
from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import Unavailable
from values.attribute_protos import proto_to_filter
from values.attributes import to_filter

from services.gateway.tests.fakes.gateway import GatewayFixture
from services.gateway.tests.fakes.retrieval import passage
from services.gateway.tests.unit.vector_stores.test_http import PATH, a_store

PASSAGES = [
    passage("file-1", "guide.pdf", 3, "An argosy is a fleet.", 0.03),
    passage("file-2", "notes.txt", 0, "Ships sail.", 0.02),
]


async def test_a_search_answers_in_openais_shape(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.retrieval.passages = {"ships": PASSAGES}

    response = await demo.post(f"{PATH}/{await a_store(demo)}/search", json={"query": "ships"})

    assert response.json() == {
        "object": "vector_store.search_results.page",
        "search_query": ["ships"],
        "data": [
            {
                "file_id": "file-1",
                "filename": "guide.pdf",
                "score": 0.03,
                "attributes": {"page": 3},
                "content": [{"type": "text", "text": "An argosy is a fleet."}],
            },
            {
                "file_id": "file-2",
                "filename": "notes.txt",
                "score": 0.02,
                "attributes": {},
                "content": [{"type": "text", "text": "Ships sail."}],
            },
        ],
        "has_more": False,
        "next_page": None,
        "argosy": {"reranked": False, "warnings": []},
    }


async def test_a_passage_has_the_attributes_of_its_file(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    own = pb.Attributes(values={"year": pb.AttributeValue(integer=2024), "page": pb.AttributeValue(text="cover")})
    with_page, without = passage("file-1", "a.pdf", 3, "x", 0.5), passage("file-1", "a.pdf", 4, "y", 0.4)
    without.attributes.CopyFrom(own)
    gateway.retrieval.passages = {"ships": [with_page, without]}

    found = (await demo.post(f"{PATH}/{await a_store(demo)}/search", json={"query": "ships"})).json()["data"]

    assert [item["attributes"] for item in found] == [{"page": 3}, {"year": 2024, "page": "cover"}]


async def test_a_search_is_asked_for_with_its_filter_and_its_ranking(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    filters = {
        "type": "and",
        "filters": [
            {"type": "in", "key": "author", "value": ["Ada", 7, True]},
            {"type": "or", "filters": [{"type": "gt", "key": "year", "value": 2023}]},
        ],
    }
    ranking = {"ranker": "none", "score_threshold": 0.25}
    body = {"query": ["a", "b"], "filters": filters, "ranking_options": ranking, "rewrite_query": True}

    shown = await demo.post(f"{PATH}/{await a_store(demo)}/search", json=body)

    assert shown.json()["search_query"] == ["a", "b"]
    for request in gateway.retrieval.searches:
        assert proto_to_filter(request.filter) == to_filter(filters)
        assert (request.ranker, request.min_score, request.limit) == (pb.RANKER_FUSION, 0.25, 10)


@pytest.mark.parametrize(
    "condition",
    [{"filters": {"type": "eq", "key": "team", "value": "a"}}, {"ranking_options": {"score_threshold": 0.25}}],
)
async def test_a_service_that_ignores_conditions_is_not_believed(
    gateway: GatewayFixture, demo: httpx.AsyncClient, condition: dict[str, Any]
) -> None:
    gateway.retrieval.passages, gateway.retrieval.applies_conditions = {"ships": PASSAGES}, False
    search = f"{PATH}/{await a_store(demo)}/search"

    assert (await demo.post(search, json={"query": "ships"} | condition)).status_code == 503
    assert (await demo.post(search, json={"query": "ships"})).status_code == 200


@pytest.mark.parametrize("ranking", [{"ranker": "auto"}, {"ranker": "default-2024-11-15", "score_threshold": 0}, {}])
async def test_openais_rankers_are_the_service_s_own(
    gateway: GatewayFixture, demo: httpx.AsyncClient, ranking: dict[str, Any]
) -> None:
    await demo.post(f"{PATH}/{await a_store(demo)}/search", json={"query": "a", "ranking_options": ranking})

    [request] = gateway.retrieval.searches
    assert (request.ranker, request.HasField("filter")) == (pb.RANKER_UNSPECIFIED, False)


@pytest.mark.parametrize(
    ("ranker", "outcomes", "expected_note"),
    [
        ("rerank", [pb.RERANKING_DONE], "reranked"),
        ("rerank", [pb.RERANKING_DONE, pb.RERANKING_SKIPPED], "warned"),
        ("rerank", [pb.RERANKING_UNSPECIFIED], "warned"),
        ("auto", [pb.RERANKING_UNSPECIFIED], "nothing"),
        ("auto", [pb.RERANKING_DONE], "reranked"),
        ("auto", [pb.RERANKING_SKIPPED], "warned"),
        ("rerank", [pb.RERANKING_DONE, pb.RERANKING_NO_BUDGET], "no budget"),
        ("auto", [pb.RERANKING_NO_BUDGET], "no budget"),
    ],
)
async def test_a_search_says_whether_a_reranker_has_ordered_it(
    gateway: GatewayFixture,
    demo: httpx.AsyncClient,
    ranker: str,
    outcomes: list[pb.Reranking.ValueType],
    expected_note: str,
) -> None:
    gateway.retrieval.reranking = list(outcomes)
    body = {"query": ["a", "b"][: len(outcomes)], "ranking_options": {"ranker": ranker}}

    found = (await demo.post(f"{PATH}/{await a_store(demo)}/search", json=body)).json()

    expected = pb.RANKER_RERANK if ranker == "rerank" else pb.RANKER_UNSPECIFIED
    assert {request.ranker for request in gateway.retrieval.searches} == {expected}
    assert found["argosy"]["reranked"] is (expected_note == "reranked")
    words = {"warned": "did not answer in time", "no budget": "budget is exhausted"}.get(expected_note)
    warned = [(words or "") in warning for warning in found["argosy"]["warnings"]]
    assert warned == ([True] if words else [])


async def test_several_queries_give_each_passage_once_by_its_best_score(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    better = passage("file-2", "notes.txt", 0, "Ships sail.", 0.05)
    gateway.retrieval.passages = {"ships": PASSAGES, "sails": [better]}
    store = await a_store(demo)

    asked = {"query": ["ships", "sails"], "max_num_results": 2}
    shown = (await demo.post(f"{PATH}/{store}/search", json=asked)).json()

    assert [(found["file_id"], found["score"]) for found in shown["data"]] == [("file-2", 0.05), ("file-1", 0.03)]
    one = await demo.post(f"{PATH}/{store}/search", json=asked | {"max_num_results": 1})
    assert len(one.json()["data"]) == 1


async def test_a_query_that_fails_cancels_the_others(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def before_search(query: str) -> None:
        if query == "bad":
            await started.wait()
            raise Unavailable("retrieval does not answer")
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    gateway.retrieval.before_search = before_search

    response = await demo.post(f"{PATH}/{await a_store(demo)}/search", json={"query": ["slow", "bad"]})

    assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
    async with asyncio.timeout(30):
        await cancelled.wait()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query[0]"),
        ({"query": ["q", ""]}, "query[1]"),
        ({"query": ["q", 7]}, "query[1]"),
        ({"query": []}, "query"),
        ({"query": ["q"] * 9}, "query"),
        ({"query": 7}, "query"),
        ({"query": "q", "max_num_results": 0}, "max_num_results"),
        ({"query": "q", "max_num_results": 51}, "max_num_results"),
        ({"query": "q", "filters": {"type": "like", "key": "a", "value": 1}}, "filters"),
        ({"query": "q", "filters": {"a": 1}}, "filters"),
        ({"query": "q", "filters": []}, "filters"),
        ({"query": "q", "ranking_options": {"score_threshold": 1.5}}, "ranking_options.score_threshold"),
        ({"query": "q", "ranking_options": {"score_threshold": "0.5"}}, "ranking_options.score_threshold"),
        ({"query": "q", "ranking_options": {"ranker": "bm25"}}, "ranking_options.ranker"),
    ],
)
async def test_an_invalid_search_is_refused(demo: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    response = await demo.post(f"{PATH}/{await a_store(demo)}/search", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
