"""Answers in all known shapes, and what is wrong with some: each was reported of a provider or a server."""

from typing import Any

import pytest
from inference_worker.providers.model import UpstreamProtocolError
from inference_worker.providers.payloads import parse_document
from inference_worker.providers.rerankers.answers import NOT_REPORTED, read_numbers, read_usage
from inference_worker.providers.scores import to_score, to_scores
from values.usage import TokenUsage, UsageSource

BEST_FIRST = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]


def tokens(count: int) -> TokenUsage:
    return TokenUsage(UsageSource.REPORTED, count, 0)


@pytest.mark.parametrize(
    "document",
    [
        {"results": BEST_FIRST},
        {"data": BEST_FIRST},
        {"data": {"results": BEST_FIRST}},
        {"output": {"results": BEST_FIRST}},
        {"results": None, "data": BEST_FIRST},
        BEST_FIRST,
        [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.2}],
        {"rankings": [{"index": 1, "logit": 0.9}, {"index": 0, "logit": 0.2}]},
        {"scores": [0.2, 0.9]},
        {"results": [{**one, "document": None} for one in BEST_FIRST]},
        {"results": [{**one, "document": {"text": "t"}} for one in BEST_FIRST]},
        {"results": [{"index": "1", "relevance_score": "0.9"}, {"index": 0.0, "relevance_score": "2e-1"}]},
        {"results": [*BEST_FIRST, {"index": 1, "relevance_score": 0.1}]},
        {"results": [{"index": 1, "relevance_score": None, "score": 0.9}, {"index": 0, "score": 0.2}]},
    ],
)
def test_a_score_belongs_to_the_document_of_its_index_in_every_shape(document: Any):
    assert read_numbers(document, 2) == [0.2, 0.9]


def test_a_score_of_zero_is_a_score():
    assert read_numbers({"results": [{"index": 0, "relevance_score": 0.0, "score": 0.7}]}, 1) == [0.0]


@pytest.mark.parametrize("number", ["NaN", "null", '"nan"', '"high"', "Infinity", "true", "[]"])
def test_what_is_no_number_leaves_its_document_without_a_score(number: str):
    body = f'{{"results": [{{"index": 1, "relevance_score": {number}}}, {{"index": 0, "relevance_score": 0.5}}]}}'

    assert read_numbers(parse_document(body.encode()), 2) == [0.5, None]


def test_documents_that_were_left_out_have_no_score():
    assert read_numbers({"results": [{"index": 2, "relevance_score": 0.5}]}, 3) == [None, None, 0.5]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "no results"),
        ({"results": None}, "no results"),
        ({"results": "none"}, "no results"),
        ("text", "no results"),
        ({"results": []}, "no score"),
        ({"results": [{"index": 0, "relevance_score": None}]}, "no score"),
        ({"results": [{"index": 1, "relevance_score": 1}, {"index": 2, "relevance_score": 0}]}, "did not get"),
        ({"results": [{"index": 10**12, "relevance_score": 1}]}, "did not get"),
        ({"results": [{"index": 0.5, "relevance_score": 1}]}, "without the index"),
        ({"results": [{"index": -1, "relevance_score": 1}]}, "without the index"),
        ({"results": [{"index": True, "relevance_score": 1}]}, "without the index"),
        ({"results": [{"relevance_score": 1}, {"relevance_score": 0}]}, "without the index"),
        ({"results": [None, None]}, "without the index"),
        ({"scores": [0.1]}, "one score per document"),
        ({"scores": [0.1, 0.2, 0.3]}, "one score per document"),
    ],
)
def test_an_answer_whose_scores_may_be_those_of_other_documents_is_refused(document: Any, words: str):
    with pytest.raises(UpstreamProtocolError, match=words):
        read_numbers(document, 2)


@pytest.mark.parametrize(
    ("document", "count", "units"),
    [
        ({"usage": {"total_tokens": 9, "prompt_tokens": 7}}, 9, None),
        ({"usage": {"prompt_tokens": 7, "total_tokens": None}}, 7, None),
        ({"usage": {"input_tokens": 7, "output_tokens": 0}}, 7, None),
        ({"meta": {"billed_units": {"search_units": 2}}}, None, 2),
        ({"meta": {"billed_units": {"search_units": 2.0}, "tokens": {"input_tokens": 5}}}, 5, 2),
        ({"meta": {"billed_units": {"total_tokens": 6}, "tokens": None}}, 6, None),
        ({"meta": {"billed_units": {"input_tokens": 0, "search_units": 0}, "tokens": {"input_tokens": 5}}}, 5, None),
        ({"usage": None, "meta": {"api_version": None, "billed_units": None, "tokens": None}}, None, None),
        ({"usage": {"total_tokens": 0, "prompt_tokens": 0}}, None, None),
        ({"usage": {"total_tokens": -1}}, None, None),
        ({"usage": {"total_tokens": 10**12}}, None, None),
        ({"usage": {"total_tokens": True}, "meta": []}, None, None),
        ([], None, None),
    ],
)
def test_usage_is_read_where_each_provider_has_it(document: Any, count: int | None, units: int | None):
    usage = read_usage(document)

    assert usage == (None if count is None else tokens(count), units)
    if count is units is None:
        assert usage == NOT_REPORTED


def test_logits_become_scores_and_scores_stay_what_they_are():
    assert to_scores([0.3, 0.2, 0.1]) == [0.3, 0.2, 0.1]
    assert to_scores([0.0, 1.0]) == [0.0, 1.0]
    assert to_scores([-1.0, -1.5]) == [to_score(-1.0), to_score(-1.5)]
    assert to_scores([7.2, 0.5]) == [to_score(7.2), to_score(0.5)]
    assert to_scores([]) == []
