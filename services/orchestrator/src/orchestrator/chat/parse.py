"""Parses a client's chat completion: what decides its cost, and our extension. Others are judged by `field_table`."""

import unicodedata
from collections.abc import Mapping
from datetime import timedelta
from typing import Never

import orjson
from chassis.errors import InvalidRequest
from values.attributes import Filter, to_filter
from values.limits import MAX_CACHE_AGE_SECONDS, MAX_PASSAGES, MAX_QUERY_CHARACTERS, MAX_VECTOR_STORES_PER_REQUEST
from values.money import MAX_TOKENS

from orchestrator.chat.field_table import ALLOWED_VALUES, FIELDS, FREE_TOOLS, OUTPUT_LIMIT_FIELDS, Treatment, short_name
from orchestrator.chat.model import ParsedChat
from orchestrator.context.model import Document, RetrievalOptions
from orchestrator.response_cache.model import CacheControl, CacheMode

MAX_ANSWERS = 128

_EXTENSION = frozenset({"cache", "retrieval", "metadata"})
_CACHE = frozenset({"mode", "max_age"})
_CACHE_MODES = {mode.value: mode for mode in CacheMode}
_RETRIEVAL = frozenset({"vector_store_ids", "query", "limit", "optional", "filters"})


def _plain(name: str) -> str:
    """Return a name without case and separators, in which two spellings of one name are equal."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


_BY_PLAIN_NAME = {_plain(name): name for name in FIELDS}
_UNCHECKED = frozenset(
    name
    for name, field in FIELDS.items()
    if field.treatment is not Treatment.REFUSED and field.providers is None and name not in {*ALLOWED_VALUES, "tools"}
)


def parse_chat(body: bytes, max_output_tokens: int) -> ParsedChat:
    """Check the fields that we decide on and take them out of the client's document.

    Numbers that a 64-bit integer cannot hold become the nearest float. `max_output_tokens` is the largest output limit
    among the route's candidates. Raises `InvalidRequest` with the parameter's path.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("the body is not a JSON object")
    document: Document = parsed
    extension = document.pop("argosy", None)
    retrieval, cache = _parse_extension(extension)
    special_fields = _check_fields(document)
    _check_messages(document.get("messages"))
    _check_object(document.get("stream_options"), "stream_options")
    answers = _int_field(document, "n", 1, MAX_ANSWERS)
    limits = []
    for name in OUTPUT_LIMIT_FIELDS:
        if name in document:
            limits.append(_output_limit(document, name, max_output_tokens))
            del document[name]
    set_limits = [limit for limit in limits if limit is not None]
    limit, tags = max(set_limits, default=None), _tags(extension)
    return ParsedChat(document, limit, answers or 1, retrieval, special_fields, tags, cache)


def _check_fields(document: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names that some candidate may not get: unknown ones, and those of a single provider's API.

    Raises `InvalidRequest` for a field that is refused, for a value that is, and for another spelling of a known name:
    some upstream may read it as that name, past our limits.
    """
    names = document.keys() - _UNCHECKED
    return tuple(sorted(name for name in names if _check_field(name, document[name])))


def _check_field(name: str, value: object) -> bool:
    field = FIELDS.get(name)
    if field is None:
        known = _BY_PLAIN_NAME.get(_plain(name))
        if known is not None:
            _refuse(short_name(name), f"is not a field; is it {known}?")
        return True
    if field.treatment is Treatment.REFUSED:
        _refuse(name, f"is refused: {field.why}")
    if name in ALLOWED_VALUES:
        _check_value(name, value)
    elif name == "tools":
        _check_tools(value)
    return field.providers is not None


def _check_value(name: str, value: object) -> None:
    allowed, why = ALLOWED_VALUES[name]
    values = value if isinstance(value, list) else [value]
    if value is not None and not all(one in allowed for one in values):
        _refuse(name, f"can only be {' or '.join(allowed)}: {why}")


def _check_tools(tools: object) -> None:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict) or tool.get("type") not in tuple(FREE_TOOLS):
            types = " or ".join(sorted(FREE_TOOLS))
            _refuse(f"tools[{index}].type", f"can only be {types}: other tools are charged beside the tokens")


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "is not a list with at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            _refuse(f"messages[{index}]", "is not an object")
        if not isinstance(message.get("role"), str):
            _refuse(f"messages[{index}].role", "is not a string")
        if not isinstance(message.get("content"), str | list | None):
            _refuse(f"messages[{index}].content", "is neither a string nor a list of parts")


def _output_limit(document: Document, name: str, max_output_tokens: int) -> int | None:
    limit = _int_field(document, name, 1, MAX_TOKENS)
    if limit is not None and limit > max_output_tokens:
        _refuse(name, f"is more than this model can write: at most {max_output_tokens}")
    return limit


def _int_field(document: Mapping[str, object], name: str, minimum: int, maximum: int, path: str = "") -> int | None:
    value = document.get(name)
    if value is None:
        return None
    # bool is an int in Python, and no number in JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        _refuse(path + name, f"is not a whole number from {minimum} to {maximum}")
    return value


def _parse_extension(extension: object) -> tuple[RetrievalOptions | None, CacheControl | None]:
    if extension is None:
        return None, None
    fields = _check_object(extension, "argosy")
    _check_names(fields, _EXTENSION, "argosy")
    # The client's own annotations; conditions of routes may name them.
    _check_object(fields.get("metadata"), "argosy.metadata")
    return (
        None if fields.get("retrieval") is None else _parse_retrieval(fields["retrieval"]),
        None if fields.get("cache") is None else _parse_cache(fields["cache"]),
    )


def _parse_cache(options: object) -> CacheControl:
    path = "argosy.cache"
    fields = _check_object(options, path)
    _check_names(fields, _CACHE, path)
    mode = fields.get("mode")
    if mode is not None and not (isinstance(mode, str) and mode in _CACHE_MODES):
        _refuse(f"{path}.mode", f"is not one of {', '.join(CacheMode)}")
    max_age = _int_field(fields, "max_age", 0, MAX_CACHE_AGE_SECONDS, f"{path}.")
    return CacheControl(
        None if mode is None else _CACHE_MODES[mode], None if max_age is None else timedelta(seconds=max_age)
    )


def _tags(extension: object) -> Mapping[str, str]:
    metadata = extension.get("metadata") if isinstance(extension, dict) else None
    return {name: value for name, value in metadata.items() if isinstance(value, str)} if metadata else {}


def _parse_retrieval(options: object) -> RetrievalOptions:
    path = "argosy.retrieval"
    fields = _check_object(options, path)
    _check_names(fields, _RETRIEVAL, path)
    stores = fields.get("vector_store_ids")
    if (
        not isinstance(stores, list)
        or not 1 <= len(stores) <= MAX_VECTOR_STORES_PER_REQUEST
        or not all(isinstance(store, str) and store for store in stores)
    ):
        _refuse(f"{path}.vector_store_ids", f"is not a list of 1 to {MAX_VECTOR_STORES_PER_REQUEST} ids")
    query = fields.get("query")
    if query is not None and not (isinstance(query, str) and query.strip() and len(query) <= MAX_QUERY_CHARACTERS):
        _refuse(f"{path}.query", f"is not a string of 1 to {MAX_QUERY_CHARACTERS} characters")
    optional = fields.get("optional", False)
    if not isinstance(optional, bool):
        _refuse(f"{path}.optional", "is not a boolean")
    limit = _int_field(fields, "limit", 1, MAX_PASSAGES, f"{path}.")
    filters = _parse_filters(fields.get("filters"), path)
    return RetrievalOptions(tuple(stores), query if isinstance(query, str) else None, limit, optional, filters)


def _parse_filters(filters: object, path: str) -> Filter | None:
    if filters is None:
        return None
    try:
        return to_filter(filters)
    except ValueError as error:
        raise InvalidRequest(f"{path}.{error}", param=f"{path}.filters") from error


def _check_object(value: object, path: str) -> Document:
    if value is not None and not isinstance(value, dict):
        _refuse(path, "is not an object")
    return value or {}


def _check_names(fields: Document, known: frozenset[str], path: str) -> None:
    for name in fields.keys() - known:
        # Ignoring a misspelt option would silently turn it off.
        _refuse(f"{path}.{name}", f"is not known here: {', '.join(sorted(known))}")


def _refuse(path: str, why: str) -> Never:
    raise InvalidRequest(f"{path} {why}", param=path)
