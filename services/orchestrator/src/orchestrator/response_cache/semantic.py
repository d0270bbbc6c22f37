"""Answers to prompts of the same meaning.

A prompt is only compared to prompts of the same tenant that have the same words, as the guard reads them. Everything
else of both requests has to be equal. The embeddings have to be as near as the route asks for, and the guard decides.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

from chassis.errors import ArgosyError

from orchestrator.response_cache.guard import difference, is_long
from orchestrator.response_cache.key import cache_key
from orchestrator.response_cache.model import CachedAnswer
from orchestrator.response_cache.ports import PromptIndex
from orchestrator.response_cache.prompt_words import read_words
from orchestrator.response_cache.prompt_writing import works_on_messages
from orchestrator.routing.model import RouteCandidate

MAX_NEAR: Final = 4
"""Prompts that are compared by the guard."""
MAX_PUTS: Final = 64
"""Prompts that are being kept. What is beyond is not kept, and costs a hit: retrieval may be slow, or hang."""
_NEVER_KEPT: Final = (b'"tool_calls"', b'"function_call"', b'"images"', b'"audio"')
"""Answers that act, or are no text, are for their own request only."""


class Prompt(NamedTuple):
    """The last words of a user, and the digest of all else that shapes the answer, with which words they are."""

    partition: bytes
    text: str


@dataclass(frozen=True, slots=True)
class SemanticCache:
    """Finds the keys of answers by meaning. `on_failed` is called where the index did not answer: that is a miss."""

    index: PromptIndex
    timeout: timedelta
    start: Callable[[Coroutine[Any, Any, object]], object]
    on_failed: Callable[[], None] = lambda: None
    puts: set[str] = field(default_factory=set)
    """The digests of prompts that are being kept."""

    async def find(self, prompt: Prompt, threshold: float, timeout: timedelta) -> Sequence[str]:
        """Return the digests of the keys of answers that may be given, nearest first. It never fails."""
        timeout = min(timeout, self.timeout)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                near = await self.index.find(prompt.partition, prompt.text, threshold, MAX_NEAR, timeout)
        except (ArgosyError, TimeoutError):
            self.on_failed()
            return []
        return [one.entry_id for one in near if difference(one.text, prompt.text) is None]

    def keep(self, prompt: Prompt, digest: str, model: str, answer: CachedAnswer, lifetime: timedelta) -> None:
        """Let the answer with this digest be found by its prompt, in the background."""
        if any(mark in payload for payload in answer.payloads for mark in _NEVER_KEPT):
            return
        if len(self.puts) >= MAX_PUTS:
            self.on_failed()
            return
        self.puts.add(digest)
        self.start(self._put(prompt, digest, model, lifetime))

    async def _put(self, prompt: Prompt, digest: str, model: str, lifetime: timedelta) -> None:
        try:
            await self.index.put(prompt.partition, digest, model, prompt.text, lifetime)
        except ArgosyError:
            self.on_failed()
        finally:
            self.puts.discard(digest)


def read_prompt(
    tenant_id: str,
    model: str,
    document: Mapping[str, object],
    candidates: Sequence[RouteCandidate],
    output_limit: int | None,
    *,
    stream: bool,
) -> Prompt | None:
    """Return the prompt of a request; None for one whose last message is no short text of a user, or is worked on."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return None
    last: dict[str, object] = messages[-1]
    text = _only_text(last.get("content"))
    if last.get("role") != "user" or text is None or not text.strip() or is_long(text):
        return None
    if any(works_on_messages(earlier) for message in messages[:-1] for earlier in _texts_of(message)):
        return None
    words = read_words(text)
    stand_in = {**last, "content": [sorted(words.words), words.verbatim, words.symbols]}
    equal = {**document, "messages": [*messages[:-1], stand_in]}
    key = cache_key(tenant_id, model, equal, candidates, output_limit, stream=stream)
    return Prompt(bytes.fromhex(key.digest), text)


def _only_text(content: object) -> str | None:
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text") if part.keys() == {"type", "text"} and part["type"] == "text" else None
    return content if isinstance(content, str) and "\0" not in content else None


def _texts_of(message: object) -> Iterator[str]:
    """Yield the texts of a message that may instruct a model; what it or a tool has said does not."""
    if not isinstance(message, dict) or message.get("role") in {"assistant", "tool", "function"}:
        return
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text
