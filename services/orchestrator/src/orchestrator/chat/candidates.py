"""Makes a route's candidates ready: a body each, and the most tokens that it can use."""

from collections.abc import Iterator, Mapping, Sequence

import orjson
from chassis.errors import InvalidRequest

from orchestrator.chat.model import ParsedChat
from orchestrator.reservations.model import TokenBound
from orchestrator.routing.model import RouteCandidate
from orchestrator.workers.model import Candidate

TEMPLATE_TOKENS = 256
"""The most that a chat template adds without a byte in the body: a default system prompt, marks around messages."""

MEDIA_TOKENS = 50_000
"""The bound of one image, sound or file in a message: above the highest published price of one image."""


def chat_candidates(chat: ParsedChat, routed: Sequence[RouteCandidate], *, stream: bool) -> tuple[Candidate, ...]:
    """Render a body with an output limit for each candidate, and bound its tokens.

    Raises `InvalidRequest` for a document that is nested too deeply.
    """
    media = _inlined_media(chat.document)
    return tuple(_candidate(chat, candidate, stream, media) for candidate in routed)


def _candidate(chat: ParsedChat, candidate: RouteCandidate, stream: bool, media: Sequence[int]) -> Candidate:
    limit = min(chat.output_limit or candidate.max_output_tokens, candidate.max_output_tokens)
    body = _render(_complete(chat.document, candidate, limit, stream))
    bound = TokenBound(candidate.price_key, input_bound(body, media), limit * chat.answers)
    return Candidate(candidate.upstream, candidate.model, bound, body)


def _complete(document: Mapping[str, object], candidate: RouteCandidate, limit: int, stream: bool) -> dict[str, object]:
    completed = {**document, "model": candidate.model, candidate.limit_field: limit, "stream": stream}
    requested = completed.pop("stream_options", None)
    if stream:
        # The cost needs the usage, whatever the client asks for; the worker keeps that payload out of the chunks.
        options = requested if isinstance(requested, dict) else {}
        completed["stream_options"] = {**options, "include_usage": True}
    return completed


def _render(document: object) -> bytes:
    # orjson escapes no character that need not be: `input_bound` counts bytes.
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"the body cannot be passed on: {error}") from error


def input_bound(body: bytes, media: Sequence[int]) -> int:
    """Return the most tokens that a model can read from `body`; `media` are the bytes of each inlined media part.

    Each token of a byte- or character-level tokenizer stands for at least one byte of UTF-8, so there are no more
    tokens than bytes; the JSON around the text is margin. Two things are in no byte: what the chat template adds
    (`TEMPLATE_TOKENS`), and an image, whose price depends on its pixels (`MEDIA_TOKENS` each, instead of its base64).
    A tokenizer that normalizes one character into many can exceed the bound; metering books the excess to exposure,
    not to the tenant.
    """
    return len(body) - sum(media) + MEDIA_TOKENS * len(media) + TEMPLATE_TOKENS


def _inlined_media(document: Mapping[str, object]) -> list[int]:
    """Return the inlined bytes of each part of a message that is not text; 0 for one that is a link."""
    return [_inlined_bytes(part) for part in _parts(document) if part.get("type") not in ("text", "refusal")]


def _parts(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    messages = document.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _inlined_bytes(part: Mapping[str, object]) -> int:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    # Other media is inlined as plain base64 and its bytes count, which is more than it can cost.
    return len(url.encode()) if isinstance(url, str) and url.startswith("data:") else 0
