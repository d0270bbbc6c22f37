"""Which fields of a request reach which candidate, and which are refused."""

from __future__ import annotations

import json

import pytest
from chassis.errors import InvalidRequest
from orchestrator.chat.candidates import MAX_WARNINGS, Rendered, chat_candidates
from orchestrator.chat.field_table import FIELDS, MAX_NAME_CHARACTERS, Treatment
from orchestrator.chat.parse import parse_chat
from orchestrator.routing.model import Provider, RouteCandidate, UnknownFields

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ANY = RouteCandidate("cloud", "model", 100)
OWN = RouteCandidate("own", "model", 100, unknown_fields=UnknownFields.PASS)

# OpenAI's reference of chat completions, as of this commit.
DOCUMENTED = (
    *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens"),
    *("max_tokens", "messages", "metadata", "modalities", "model", "n", "parallel_tool_calls", "prediction"),
    *("presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format"),
    *("safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature"),
    *("tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options"),
)


def render(fields: dict[str, object], *routed: RouteCandidate, default: str = "drop") -> Rendered:
    chat = parse_chat(json.dumps({**BODY, **fields}).encode(), 100)
    return chat_candidates(chat, routed or (ANY,), (), stream=False, unknown_fields=UnknownFields(default))


def sent(rendered: Rendered, index: int = 0) -> dict[str, object]:
    body: dict[str, object] = json.loads(rendered.candidates[index].body)
    return body


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_field_has_a_row(name: str) -> None:
    assert name in FIELDS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("models", ["dear"]), ("route", "fallback"), ("provider", {"order": ["x"]}), ("plugins", [{"id": "web"}])),
        *(("service_tier", "priority"), ("service_tier", "flex"), ("service_tier", ["auto", "priority"])),
        *(("web_search_options", {}), ("best_of", 20), ("n_cmpl", 4), ("api_base", "http://x"), ("api_key", "k")),
        *(("base_url", "http://x"), ("chat_template", "{{ x }}"), ("transforms", ["middle-out"])),
        *(("extra_body", {"n": 9}), ("options", {"num_predict": 9_999}), ("audio", {"voice": "a"})),
        *(("modalities", ["text", "audio"]), ("id_slot", 1), ("speed", "fast")),
    ],
)
@pytest.mark.parametrize("candidate", [ANY, OWN])
def test_what_changes_the_call_or_its_price_is_refused_for_every_candidate(
    name: str, value: object, candidate: RouteCandidate
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        render({name: value}, candidate)

    assert refused.value.param == name


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(("N", "n"), ("Max_Tokens", "max_tokens"), ("maxTokens", "max_tokens"), ("max-tokens", "max_tokens")),
        *(("Models", "models"), ("serviceTier", "service_tier"), ("BEST_OF", "best_of"), ("ｎ", "n"), ("n ", "n")),
        *(("Model", "model"), ("Stream", "stream"), ("Argosy", "argosy"), ("apiBase", "api_base")),
    ],
)
def test_another_spelling_of_a_known_name_is_refused_with_a_hint(name: str, known: str) -> None:
    with pytest.raises(InvalidRequest, match=f"is it {known}\\?") as refused:
        render({name: 2}, OWN)

    assert refused.value.param == name


@pytest.mark.parametrize(
    "tool", [{"type": "web_search"}, {"type": "web_search_preview"}, {"googleSearch": {}}, {"type": ["function"]}, 7]
)
def test_a_tool_that_the_provider_runs_is_refused(tool: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        render({"tools": [{"type": "function", "function": {"name": "f"}}, tool]})

    assert refused.value.param == "tools[1].type"


def test_unknown_fields_are_dropped_with_a_warning() -> None:
    rendered = render({"future": {"a": 1}, "seed": 7})

    assert sent(rendered).keys() == {"model", "messages", "max_tokens", "stream", "seed"}
    assert rendered.warnings == ("The field future was dropped: the model's API does not have it.",)


def test_a_candidate_that_is_ours_gets_them() -> None:
    rendered = render({"future": 1}, ANY, OWN)

    assert ("future" in sent(rendered, 0), "future" in sent(rendered, 1)) == (False, True)
    assert len(rendered.warnings) == 1


def test_the_setting_is_for_candidates_that_say_nothing() -> None:
    dropping = RouteCandidate("cloud", "model", 100, unknown_fields=UnknownFields.DROP)
    rendered = render({"future": 1}, ANY, dropping, default="pass")

    assert ("future" in sent(rendered, 0), "future" in sent(rendered, 1)) == (True, False)


def test_a_field_of_one_providers_api_is_dropped_for_another() -> None:
    routed = [RouteCandidate("c", "m", 100, provider=provider) for provider in (None, *Provider)]
    rendered = render({"thinking": {"type": "adaptive"}}, *routed)

    got = ["thinking" in sent(rendered, index) for index in range(len(routed))]
    assert got == [True, False, True, False]


def test_warnings_are_few_and_short() -> None:
    rendered = render({f"{number:03}" + "x" * 10_000: 1 for number in range(500)})

    assert len(rendered.warnings) == MAX_WARNINGS
    assert rendered.warnings[-1] == f"{500 - MAX_WARNINGS + 1} more fields were dropped."
    assert all(len(warning) < MAX_NAME_CHARACTERS + 80 for warning in rendered.warnings)


def test_a_prediction_adds_to_what_can_be_written() -> None:
    prediction = {"type": "content", "content": "x" * 5_000}
    rendered = render({"prediction": prediction, "n": 2})

    assert rendered.candidates[0].bound.output_tokens >= 2 * (100 + 5_000)


def test_every_refused_row_says_why() -> None:
    assert all(field.why for field in FIELDS.values() if field.treatment is Treatment.REFUSED)
