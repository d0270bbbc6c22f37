"""Reading a client's chat completion: what decides money, and our own extension. All else passes unread."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Never

from chassis.errors import InvalidRequest

Document = dict[str, object]

MOST_ANSWERS = 128
MOST_TOKENS = 1_000_000_000
MOST_STORES = 10
MOST_PASSAGES = 50
MOST_QUERY = 8_192

LIMIT_FIELDS = ("max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict")
"""Names under which some provider reads a limit of output: one that we missed could undo the one we set."""

_EXTENSION = frozenset({"retrieval", "metadata"})
_RETRIEVAL = frozenset({"vector_store_ids", "query", "limit", "optional"})


@dataclass(frozen=True, slots=True)
class RetrievalWish:
    """What context a client asks for."""

    vector_store_ids: tuple[str, ...]
    query: str | None = None
    """None asks with the last user message."""
    limit: int | None = None
    optional: bool = False
    """Whether an answer without context is better than none while retrieval is down."""


class Chat(NamedTuple):
    """A chat completion: the client's document without our extension and without its limits, which are beside it."""

    document: Document
    output_limit: int | None
    answers: int
    retrieval: RetrievalWish | None


def read_chat(parsed: object, most_output_tokens: int) -> Chat:
    """Check what we decide on and take it out of the client's document.

    Raises `InvalidRequest` with the parameter's path. `most_output_tokens` is what the route's most talkative
    candidate can write.
    """
    if not isinstance(parsed, dict):
        raise InvalidRequest("the body is not a JSON object")
    document: Document = dict(parsed)
    retrieval = _extension(document.pop("argosy", None))
    _check_messages(document.get("messages"))
    _check_object(document.get("stream_options"), "stream_options")
    answers = _whole(document, "n", 1, MOST_ANSWERS)
    limits = []
    for name in LIMIT_FIELDS:
        if name in document:
            limits.append(_limit(document, name, most_output_tokens))
            del document[name]
    set_limits = [limit for limit in limits if limit is not None]
    return Chat(document, max(set_limits, default=None), answers or 1, retrieval)


def media_of(document: Mapping[str, object]) -> list[int]:
    """Return the inlined bytes of each part of a message that is not text: 0 for one that is only referred to."""
    return [_inlined(part) for part in _parts(document) if part.get("type") not in ("text", "refusal")]


def _parts(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    messages = document.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _inlined(part: Mapping[str, object]) -> int:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    # Other media is inlined as plain base64: its bytes stay counted, which is more than it can cost.
    return len(url.encode()) if isinstance(url, str) and url.startswith("data:") else 0


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "is not a list with at least one message")
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            _refuse(f"messages[{place}]", "is not an object")
        if not isinstance(message.get("role"), str):
            _refuse(f"messages[{place}].role", "is not a string")
        if not isinstance(message.get("content"), str | list | None):
            _refuse(f"messages[{place}].content", "is neither a string nor a list of parts")


def _limit(document: Document, name: str, most: int) -> int | None:
    limit = _whole(document, name, 1, MOST_TOKENS)
    if limit is not None and limit > most:
        _refuse(name, f"is more than this model can write: at most {most}")
    return limit


def _whole(document: Mapping[str, object], name: str, least: int, most: int, within: str = "") -> int | None:
    value = document.get(name)
    if value is None:
        return None
    # bool is an int in Python, and no number in JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        _refuse(within + name, f"is not a whole number from {least} to {most}")
    return value


def _extension(extension: object) -> RetrievalWish | None:
    if extension is None:
        return None
    known = _check_object(extension, "argosy")
    _check_names(known, _EXTENSION, "argosy")
    # For the client's own books; nobody here reads it yet.
    _check_object(known.get("metadata"), "argosy.metadata")
    return None if known.get("retrieval") is None else _retrieval(known["retrieval"])


def _retrieval(wish: object) -> RetrievalWish:
    path = "argosy.retrieval"
    known = _check_object(wish, path)
    _check_names(known, _RETRIEVAL, path)
    stores = known.get("vector_store_ids")
    if (
        not isinstance(stores, list)
        or not 1 <= len(stores) <= MOST_STORES
        or not all(isinstance(store, str) and store for store in stores)
    ):
        _refuse(f"{path}.vector_store_ids", f"is not a list of 1 to {MOST_STORES} ids")
    query = known.get("query")
    if query is not None and not (isinstance(query, str) and query.strip() and len(query) <= MOST_QUERY):
        _refuse(f"{path}.query", f"is not a string of 1 to {MOST_QUERY} characters")
    optional = known.get("optional", False)
    if not isinstance(optional, bool):
        _refuse(f"{path}.optional", "is not a boolean")
    limit = _whole(known, "limit", 1, MOST_PASSAGES, f"{path}.")
    return RetrievalWish(tuple(stores), query if isinstance(query, str) else None, limit, optional)


def _check_object(value: object, path: str) -> Document:
    if value is not None and not isinstance(value, dict):
        _refuse(path, "is not an object")
    return value or {}


def _check_names(value: Document, known: frozenset[str], path: str) -> None:
    for name in value.keys() - known:
        # A misspelt wish would silently be none.
        _refuse(f"{path}.{name}", f"is not known here: {', '.join(sorted(known))}")


def _refuse(path: str, why: str) -> Never:
    raise InvalidRequest(f"{path} {why}", param=path)
