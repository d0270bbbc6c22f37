"""Parsing a client's body, and rendering it for candidates."""

import json

import pytest
from chassis.errors import InvalidRequest
from orchestrator.chat.candidates import TEMPLATE_TOKENS, chat_candidates
from orchestrator.chat.field_table import OUTPUT_LIMIT_FIELDS
from orchestrator.chat.media import find_media
from orchestrator.chat.parse import parse_chat
from orchestrator.embeddings.prepare import embedding_candidates
from orchestrator.routing.model import RouteCandidate
from orchestrator.workers.model import Candidate

USER = {"role": "user", "content": "hello"}
BODY = {"model": "smollm2", "messages": [USER]}
STORES = {"vector_store_ids": ["vs_1"]}
LOCAL = RouteCandidate("local", "smollm2-135m-instruct", 1024)
NEWER = RouteCandidate("cloud", "newer", 512, "max_completion_tokens")


def rendered(body: object, *routed: RouteCandidate, stream: bool = False) -> list[tuple[Candidate, dict[str, object]]]:
    candidates = routed or (LOCAL,)
    chat = parse_chat(json.dumps(body).encode(), max(candidate.max_output_tokens for candidate in candidates))
    made = chat_candidates(chat, candidates, find_media(chat.document), stream=stream).candidates
    return [(candidate, json.loads(candidate.body)) for candidate in made]


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ([], None),
            ("text", None),
            ({"model": "m"}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": "hi"}, "messages"),
            ({"messages": [USER, "hi"]}, "messages[1]"),
            ({"messages": [{"content": "hi"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
            ({**BODY, "n": 0}, "n"),
            ({**BODY, "n": 129}, "n"),
            ({**BODY, "n": True}, "n"),
            ({**BODY, "n": 1.5}, "n"),
            ({**BODY, "max_tokens": 0}, "max_tokens"),
            ({**BODY, "max_tokens": "7"}, "max_tokens"),
            ({**BODY, "max_tokens": 1025}, "max_tokens"),
            ({**BODY, "max_completion_tokens": -1}, "max_completion_tokens"),
            ({**BODY, "stream_options": []}, "stream_options"),
            ({**BODY, "argosy": 1}, "argosy"),
            ({**BODY, "argosy": {"retreival": {}}}, "argosy.retreival"),
            ({**BODY, "argosy": {"metadata": ["a"]}}, "argosy.metadata"),
            ({**BODY, "argosy": {"retrieval": {}}}, "argosy.retrieval.vector_store_ids"),
            ({**BODY, "argosy": {"retrieval": {"vector_store_ids": "vs_1"}}}, "argosy.retrieval.vector_store_ids"),
            ({**BODY, "argosy": {"retrieval": {"vector_store_ids": []}}}, "argosy.retrieval.vector_store_ids"),
            ({**BODY, "argosy": {"retrieval": {"vector_store_ids": ["v"] * 11}}}, "argosy.retrieval.vector_store_ids"),
            ({**BODY, "argosy": {"retrieval": {"vector_store_ids": [""]}}}, "argosy.retrieval.vector_store_ids"),
            ({**BODY, "argosy": {"retrieval": {**STORES, "query": " "}}}, "argosy.retrieval.query"),
            ({**BODY, "argosy": {"retrieval": {**STORES, "limit": 51}}}, "argosy.retrieval.limit"),
            (
                {**BODY, "argosy": {"retrieval": {**STORES, "optional": 1}}},
                "argosy.retrieval.optional",
            ),
            ({**BODY, "argosy": {"retrieval": {**STORES, "k": 3}}}, "argosy.retrieval.k"),
            ({**BODY, "argosy": {"retrieval": {**STORES, "filters": {"year": 2024}}}}, "argosy.retrieval.filters"),
        ],
    )
    def test_an_invalid_field_is_named(self, body: object, param: str | None) -> None:
        with pytest.raises(InvalidRequest) as refused:
            parse_chat(json.dumps(body).encode(), 1024)

        assert refused.value.param == param

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff{}", b'{"a":NaN}', b'"\\ud800"'])
    def test_what_is_not_json(self, text: bytes) -> None:
        with pytest.raises(InvalidRequest):
            parse_chat(text, 1024)

    def test_what_is_nested_too_deeply_to_pass_on(self) -> None:
        nested = b'{"messages":[{"role":"user"}],"metadata":' + b"[" * 400 + b"]" * 400 + b"}"
        chat = parse_chat(nested, 1024)

        with pytest.raises(InvalidRequest):
            chat_candidates(chat, [LOCAL], (), stream=False)


class TestPassedOn:
    def test_what_is_inside_a_known_field_survives(self) -> None:
        body = {
            **BODY,
            "messages": [{**USER, "name": "ada", "x": [1.5, None]}],
            "seed": 7,
            "tools": [{"type": "function"}],
            "metadata": {"a": "ü"},
        }

        ((_, sent),) = rendered(body)

        assert sent["messages"] == body["messages"]
        assert {name: sent[name] for name in ("seed", "tools", "metadata")} == {
            name: body[name] for name in ("seed", "tools", "metadata")
        }

    def test_our_extension_is_not(self) -> None:
        ((_, sent),) = rendered({**BODY, "argosy": {"metadata": {"run": "7"}}})

        assert "argosy" not in sent

    def test_each_candidate_gets_its_own_model(self) -> None:
        assert [sent["model"] for _, sent in rendered(BODY, LOCAL, NEWER)] == ["smollm2-135m-instruct", "newer"]

    def test_a_stream_always_reports_its_usage(self) -> None:
        ((_, sent),) = rendered({**BODY, "stream_options": {"include_usage": False, "kept": 1}}, stream=True)

        assert sent["stream"] is True
        assert sent["stream_options"] == {"include_usage": True, "kept": 1}

    def test_a_whole_answer_has_no_stream_options(self) -> None:
        ((_, sent),) = rendered({**BODY, "stream": True, "stream_options": {"include_usage": True}})

        assert sent["stream"] is False
        assert "stream_options" not in sent


class TestLimit:
    def test_a_client_without_one_gets_the_candidates_own(self) -> None:
        made = rendered(BODY, LOCAL, NEWER)

        assert [(sent.get("max_tokens"), sent.get("max_completion_tokens")) for _, sent in made] == [
            (1024, None),
            (None, 512),
        ]
        assert [candidate.bound.output_tokens for candidate, _ in made] == [1024, 512]

    @pytest.mark.parametrize("name", OUTPUT_LIMIT_FIELDS)
    def test_is_moved_to_the_field_that_the_candidate_reads(self, name: str) -> None:
        ((candidate, sent),) = rendered({**BODY, name: 40, "n": 2})

        assert sent["max_tokens"] == 40
        assert sent.keys().isdisjoint({*OUTPUT_LIMIT_FIELDS} - {"max_tokens"})
        assert candidate.bound.output_tokens == 80

    def test_that_the_largest_candidate_can_keep_is_cut_for_a_smaller_one(self) -> None:
        made = rendered({**BODY, "max_tokens": 1000}, LOCAL, NEWER)

        assert [candidate.bound.output_tokens for candidate, _ in made] == [1000, 512]


class TestInputBound:
    @pytest.mark.parametrize("content", ["hello", "ü" * 50, "漢字" * 40, "\U0001f6a2" * 9, '"\\\n' * 30, ""])
    def test_is_at_least_a_token_for_each_byte_of_text(self, content: str) -> None:
        ((candidate, _),) = rendered({"messages": [{"role": "user", "content": content}]})

        assert candidate.bound.input_tokens >= len(content.encode()) + TEMPLATE_TOKENS

    @pytest.mark.parametrize(
        "fields",
        [
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"x": "ü" * 900}}}},
            {"tools": [{"type": "function", "function": {"name": "f", "description": "ü" * 900}}]},
            {"functions": [{"name": "f", "description": "ü" * 900}]},
        ],
    )
    def test_counts_schemas_and_tools(self, fields: dict[str, object]) -> None:
        ((plain, _),), ((candidate, _),) = rendered(BODY), rendered({**BODY, **fields})

        assert candidate.bound.input_tokens >= plain.bound.input_tokens + 2 * 900

    def test_of_an_embedding_is_at_least_a_token_for_each_byte(self) -> None:
        (candidate,) = embedding_candidates(["ü", "abc"], [RouteCandidate("minilm", "all-minilm-l6-v2")])

        assert candidate.bound.input_tokens >= 2 + 3 + 2 * 2
        assert candidate.bound.output_tokens == 0
        assert candidate.bound.price_key == "minilm/all-minilm-l6-v2"
