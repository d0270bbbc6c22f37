"""What routing reads of a chat completion."""

from collections.abc import Mapping, Sequence

from orchestrator.chat.media import Media, MediaKind
from orchestrator.chat.model import ChatRequest, ParsedChat
from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import Route

PREFIX_CHARACTERS = 2_000
"""Of each of the first two messages: as much tells conversations apart, and costs little to hash."""


def facts_of(
    request: ChatRequest, chat: ParsedChat, media: Sequence[Media], route: Route, *, added: int
) -> RequestFacts:
    """Read the facts; `added` are the most bytes of context that are not in the body yet."""
    document, principal = chat.document, request.principal
    asked = document.get("response_format")
    format_type = asked.get("type") if isinstance(asked, dict) else None
    kinds = {one.kind for one in media}
    return RequestFacts(
        principal.tenant_id,
        principal.plan,
        chat.tags.get("country", "").upper(),
        chat.tags,
        bool(document.get("tools") or document.get("functions")),
        MediaKind.IMAGE in kinds or any(one.document.pages for one in media),
        MediaKind.AUDIO in kinds,
        format_type == "json_schema",
        format_type in ("json_schema", "json_object"),
        len(request.body) - sum(one.inlined_bytes for one in media) + added,
        chat.output_limit,
        "" if route.policy.right_sizing is None else _text(document, -1),
        request.stream,
    )


def seed_of(request: ChatRequest, chat: ParsedChat, route: Route) -> str:
    """Return what the order of candidates is drawn from: the request, or the beginning of a sticky conversation."""
    if not route.policy.sticky:
        return request.request_id
    first, second = (_text(chat.document, index)[:PREFIX_CHARACTERS] for index in (0, 1))
    return f"{request.principal.tenant_id}\0{first}\0{second}"


def _text(document: Mapping[str, object], index: int) -> str:
    messages = document.get("messages")
    if not isinstance(messages, list) or not -len(messages) <= index < len(messages):
        return ""
    content = messages[index].get("content")
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in content or () if isinstance(part, dict))
    return " ".join(text for text in parts if isinstance(text, str))
