"""Routes as documents, and what is refused in them."""

from dataclasses import replace
from typing import Any

import pytest
from chassis.errors import ArgosyError
from orchestrator.routing.check import check_route, diff_documents
from orchestrator.routing.document import document_to_entry, entry_to_document, options_to_document, with_options
from orchestrator.routing.policy import Strategy
from values.usage import BillingUnit

ONE = {"upstream": "a", "model": "m"}
TWO = {"upstream": "b", "model": "m"}


def checked(document: object, tenant_id: str = "*") -> None:
    check_route(document_to_entry(tenant_id, "gpt", document), priced={"a/m", "b/m"}, upstreams={"a", "b"})


def test_a_document_is_written_as_it_was_read() -> None:
    document: dict[str, Any] = {
        "strategy": "weighted",
        "sticky": True,
        "candidates": [
            {**ONE, "weight": 3, "conditions": {"plans": ["pro"], "countries": ["DE"], "tags": {"team": ["x", "y"]}}},
            {**TWO, "priority": 1, "capabilities": {"vision": False, "context_tokens": 8000}},
        ],
        "fallbacks": {"context_overflow": [TWO]},
        "cache": {"exact": True, "ttl_seconds": 60, "charge": "discounted", "discount_percent": 80},
        "right_sizing": {"cheap": ["a/m"], "hard_words": ["Prove"]},
    }
    entry = document_to_entry("*", "gpt", document)

    written = entry_to_document(entry)

    assert entry.policy.strategy is Strategy.WEIGHTED
    assert document_to_entry("*", "gpt", written) == entry
    assert written["right_sizing"]["hard_words"] == ["prove"]


def test_the_unit_of_bills_is_written_only_where_an_older_version_must_know_it() -> None:
    document = {"task": "rerank", "candidates": [{**ONE, "billing_unit": "search_units"}, TWO]}
    entry = document_to_entry("*", "reranker", document)

    written = entry_to_document(entry)["candidates"]

    assert [one.get("billing_unit") for one in written] == ["search_units", None]
    assert document_to_entry("*", "reranker", entry_to_document(entry)) == entry
    kept = [
        with_options(replace(one, billing_unit=BillingUnit.TOKENS), options_to_document(one), one.role)
        for one in entry.candidates
    ]
    assert tuple(kept) == entry.candidates


@pytest.mark.parametrize(
    ("document", "reason", "param"),
    [
        ({"candidates": [{**ONE, "billing_unit": "tokens"}]}, "INVALID_REQUEST", "candidates[0].billing_unit"),
        (
            {"task": "rerank", "candidates": [{**ONE, "billing_unit": "pages"}]},
            "INVALID_REQUEST",
            "candidates[0].billing_unit",
        ),
        ({"candidates": []}, "INVALID_REQUEST", "candidates"),
        ({"candidates": [ONE], "colour": "red"}, "INVALID_REQUEST", "colour"),
        (
            {"candidates": [{**ONE, "conditions": {"plan": ["pro"]}}]},
            "INVALID_REQUEST",
            "candidates[0].conditions.plan",
        ),
        ({"candidates": [{**ONE, "weight": -1}]}, "INVALID_REQUEST", "candidates[0].weight"),
        ({"candidates": [{**ONE, "weight": 0}], "strategy": "weighted"}, "INVALID_REQUEST", "candidates.weight"),
        ({"candidates": [ONE, ONE]}, "INVALID_REQUEST", "candidates"),
        (
            {"candidates": [ONE], "fallbacks": {"context_overflow": [ONE]}},
            "FALLBACK_CYCLE",
            "fallbacks.context_overflow",
        ),
        ({"candidates": [{"upstream": "z", "model": "m"}]}, "UNKNOWN_UPSTREAM", "candidates"),
        ({"candidates": [{"upstream": "a", "model": "free"}]}, "UNPRICED_CANDIDATE", "candidates"),
        ({"candidates": [ONE], "right_sizing": {"cheap": ["b/m"]}}, "INVALID_REQUEST", "right_sizing.cheap"),
        ({"candidates": [ONE], "right_sizing": {"cheap": ["a/m"]}}, "INVALID_REQUEST", "right_sizing.cheap"),
        ({"candidates": [ONE], "cache": {"threshold": 0}}, "INVALID_REQUEST", "cache.threshold"),
        (
            {"task": "embedding", "candidates": [ONE], "cache": {"exact": True}},
            "INVALID_REQUEST",
            "cache.exact",
        ),
        ({"candidates": [ONE], "cache": {"exact": True, "disabled": True}}, "INVALID_REQUEST", "cache.disabled"),
        ({"candidates": [ONE], "cache": {"disabled": "yes"}}, "INVALID_REQUEST", "cache.disabled"),
        (
            {"candidates": [ONE], "cache": {"exact": True, "ttl_seconds": 2_592_001}},
            "INVALID_REQUEST",
            "cache.ttl_seconds",
        ),
        ({"candidates": [ONE], "cache": {"semantic": True}}, "INVALID_REQUEST", "cache.semantic"),
        (
            {"candidates": [ONE], "cache": {"stale_if_error_seconds": 9}},
            "INVALID_REQUEST",
            "cache.stale_if_error_seconds",
        ),
        ({"candidates": [ONE], "retry": {"max_attempts": 2}}, "INVALID_REQUEST", "retry.max_attempts"),
        ({"candidates": "a/m"}, "INVALID_REQUEST", "candidates"),
        ([], "INVALID_REQUEST", "the route"),
    ],
)
def test_a_route_that_could_not_work_is_refused_by_name(document: object, reason: str, param: str) -> None:
    with pytest.raises(ArgosyError) as refused:
        checked(document)

    assert (refused.value.reason, refused.value.param) == (reason, param)


def test_a_tenants_empty_route_hides_a_model() -> None:
    checked({"candidates": []}, "ten_1")


def test_a_difference_names_the_path() -> None:
    changes = diff_documents({"candidates": [ONE], "sticky": False}, {"candidates": [ONE, TWO], "sticky": True})

    assert changes == [
        {"path": "candidates[1]", "before": None, "after": TWO},
        {"path": "sticky", "before": False, "after": True},
    ]
