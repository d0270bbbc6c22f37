import pytest
from orchestrator.response_cache.key import NOT_SHAPING, cache_key
from orchestrator.response_cache.model import CacheKey

from services.orchestrator.tests.fakes import MINILM, SMOLLM2

MESSAGES = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}]


def key(document: dict[str, object], **changes: object) -> CacheKey:
    values: dict[str, object] = {
        "tenant_id": "ten_a",
        "model": "smollm2",
        "candidates": (SMOLLM2,),
        "output_limit": None,
        "stream": True,
        **changes,
    }
    return cache_key(document={"messages": MESSAGES, **document}, **values)  # type: ignore[arg-type]


def test_equal_documents_have_equal_keys_whatever_the_order_of_their_fields() -> None:
    one = {"temperature": 0, "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
    two = {"tools": TOOLS, "messages": [{"content": "Hi", "role": "user"}], "temperature": 0}
    assert key(one) == key(two)


def test_the_order_of_the_fields_of_a_schema_changes_the_key_because_it_is_that_of_the_answer() -> None:
    def schema(*names: str) -> dict[str, object]:
        return {"type": "object", "properties": {name: {"type": "string"} for name in names}}

    def asked(*names: str) -> dict[str, object]:
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema(*names)}}}

    def offered(*names: str) -> dict[str, object]:
        return {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema(*names)}}]}

    for document in (asked, offered):
        assert key(document("reason", "answer")) == key(document("reason", "answer"))
        assert key(document("reason", "answer")) != key(document("answer", "reason"))


@pytest.mark.parametrize("name", sorted(NOT_SHAPING - {"stream_options"}))
def test_fields_that_do_not_shape_the_answer_do_not_change_the_key(name: str) -> None:
    assert key({name: "x"}) == key({})


def test_asking_for_usage_does_not_change_the_key_and_other_options_of_a_stream_do() -> None:
    assert key({"stream_options": {"include_usage": True}}) == key({})
    assert key({"stream_options": {"include_obfuscation": True}}) != key({})
    assert key({"stream_options": {"x": True}}, stream=False) == key({}, stream=False)


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"role": "user", "content": "Hi!"}]},
        {"messages": [{"role": "system", "content": "Hi"}]},
        {"messages": [*MESSAGES, *MESSAGES]},
        {"temperature": 0.5},
        {"seed": 1},
        {"n": 2},
        {"tools": []},
        {"response_format": {"type": "json_object"}},
        {"a_field_that_nobody_knows": 1},
    ],
)
def test_everything_else_changes_the_key(document: dict[str, object]) -> None:
    assert key(document) != key({})


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": "ten_b"},
        {"model": "other"},
        {"candidates": (MINILM,)},
        {"candidates": (SMOLLM2, MINILM)},
        {"output_limit": 5},
        {"stream": False},
    ],
)
def test_tenant_route_limit_and_form_change_the_key(change: dict[str, object]) -> None:
    assert key({}, **change) != key({})


def test_the_order_of_candidates_does_not_change_the_key() -> None:
    assert key({}, candidates=(SMOLLM2, MINILM)) == key({}, candidates=(MINILM, SMOLLM2))
