"""Which classes of tokens a candidate certainly does not use, so that nothing is held for their prices."""

import base64
import json
from typing import Any

import pytest
from orchestrator.chat.candidates import chat_candidates
from orchestrator.chat.media import find_media
from orchestrator.chat.parse import parse_chat
from orchestrator.routing.model import Provider, RouteCandidate
from values.usage import AbsentClasses

MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SOUND = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode(b"RIFF" + bytes(99)).decode(), "format": "wav"},
}


def absent(provider: Provider | None, *parts: dict[str, Any], **fields: Any) -> AbsentClasses:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, *parts]}], **fields}
    chat = parse_chat(json.dumps(body).encode(), 100)
    candidate = RouteCandidate("a", "m", 100, provider=provider)
    made = chat_candidates(chat, [candidate], find_media(chat.document), stream=False).candidates
    return made[0].bound.absent


def test_a_text_for_anthropic_writes_to_no_cache_and_has_no_sound() -> None:
    assert absent(Provider.ANTHROPIC) == AbsentClasses(cache_writes=True, audio_input=True, audio_output=True)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: absent(Provider.ANTHROPIC, {"type": "text", "text": "Hi", **MARK}),
        lambda: absent(Provider.ANTHROPIC, tools=[{"type": "function", "function": {"name": "f"}, **MARK}]),
    ],
)
def test_what_is_marked_may_be_written_to_its_cache(request_of: Any) -> None:
    assert not request_of().cache_writes


def test_a_mark_that_json_spells_with_escapes_is_found() -> None:
    body = b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "c\\u0061che_control": {}}]}]}'
    candidate = RouteCandidate("a", "m", 100, provider=Provider.ANTHROPIC)
    made = chat_candidates(parse_chat(body, 100), [candidate], (), stream=False).candidates

    assert b"cache_control" not in body
    assert not made[0].bound.absent.cache_writes


@pytest.mark.parametrize("provider", [None, Provider.OPENAI, Provider.GEMINI])
def test_other_providers_may_write_to_a_cache_by_themselves(provider: Provider | None) -> None:
    assert not absent(provider).cache_writes


@pytest.mark.parametrize("provider", [None, *Provider])
def test_sound_is_held_for_where_a_request_has_some(provider: Provider | None) -> None:
    assert absent(provider, SOUND).audio_input is False
    assert absent(provider).audio_input is True
