"""Upstreams as JSON documents: stored, logged, shown, and sent to workers. No document holds a secret."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Never

from chassis.errors import InvalidRequest
from values.limits import MAX_CHAT_BYTES, MAX_RERANK_DOCUMENTS

from orchestrator.upstreams.address import check_base_url
from orchestrator.upstreams.model import Upstream, UpstreamKind

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_PROVIDER = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_API_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

ENCODINGS: Final = ("cl100k_base", "o200k_base", "p50k_base")
CACHE_FIELDS: Final = ("prompt_cache_key", "cache_salt")
ABILITIES: Final = ("tools", "vision", "audio", "json_schema")
_BILLION: Final = 1_000_000_000

Check = Callable[[Any, str], Any]


def check_name(name: str) -> str:
    """Raises InvalidRequest for a name that could not stand in a price key."""
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name!r} cannot be an upstream's name: 1 to 63 lower-case letters, digits, dots, hyphens, underscores.",
            param="name",
        )
    return name


def document_to_upstream(name: str, document: object, allowed: Collection[str]) -> Upstream:
    """Read what an operator writes, and add the defaults. `allowed` are hosts that are not checked.

    Raises InvalidRequest with the path of what is wrong, UpstreamAddressNotAllowed.
    """
    if not isinstance(document, dict):
        _refuse("the upstream", "is not a JSON object")
    kind = _choice(*UpstreamKind)(document.get("kind"), "kind")
    fields = _FIELDS[UpstreamKind(kind)]
    for given in document:
        if given not in fields:
            _refuse(str(given), f"is not known for the kind {kind}; there are: {', '.join(fields)}")
    read = {field: check(document.get(field, default), field) for field, (default, check) in fields.items()}
    if read["base_url"] is not None:
        check_base_url(read["base_url"], allowed)
    return Upstream(check_name(name), read)


def stored_to_upstream(name: str, document: Mapping[str, Any]) -> Upstream:
    """Return what was checked when it was stored."""
    return Upstream(name, document)


def _text(pattern: re.Pattern[str]) -> Check:
    def check(value: Any, path: str) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            _refuse(path, "is missing, or has characters that it cannot have")
        return value

    return check


def _url(value: Any, path: str) -> str:
    if not isinstance(value, str):
        _refuse(path, "is missing: it is the address of the API, without the path of the call")
    return value


def _optional(check: Check) -> Check:
    return lambda value, path: None if value is None else check(value, path)


def _choice(*choices: str) -> Check:
    def check(value: Any, path: str) -> str:
        if value not in choices or not isinstance(value, str):
            _refuse(path, f"is none of {', '.join(choices)}")
        return str(value)

    return check


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        _refuse(path, "is not true or false")
    return value


def _number(minimum: float, maximum: float, *, integer: bool = True) -> Check:
    def check(value: Any, path: str) -> float:
        kinds = (int,) if integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not minimum <= value <= maximum:
            _refuse(path, f"is not {'an integer' if integer else 'a number'} from {minimum} to {maximum}")
        return value

    return check


def _capabilities(value: Any, path: str) -> dict[str, Any]:
    known = (*ABILITIES, "context_tokens")
    if not isinstance(value, dict):
        _refuse(path, "is not an object")
    for name in value:
        if name not in known:
            _refuse(f"{path}.{name}", f"is not known; there are: {', '.join(known)}")
    checks: dict[str, Check] = {**dict.fromkeys(ABILITIES, _flag), "context_tokens": _number(1, _BILLION)}
    return {name: _optional(check)(value.get(name), f"{path}.{name}") for name, check in checks.items()}


def _refuse(path: str, why: str) -> Never:
    raise InvalidRequest(f"{path} {why}.", param=path)


_ALL: Final[dict[str, tuple[Any, Check]]] = {
    "kind": (None, _choice(*UpstreamKind)),
    "description": ("", _text(re.compile(r"[^\x00-\x1f\x7f]{0,500}"))),
    "requires_credential": (True, _flag),
    "capabilities": ({}, _capabilities),
}
_COMMON: Final[dict[str, tuple[Any, Check]]] = {
    **_ALL,
    "encoding": ("cl100k_base", _optional(_choice(*ENCODINGS))),
    "shares_prompt_cache": (True, _flag),
    "tenant_cache_field": (None, _optional(_choice(*CACHE_FIELDS))),
}
_HTTP: Final[dict[str, tuple[Any, Check]]] = {
    "base_url": (None, _url),
    "connect_timeout_seconds": (5, _number(0.1, 60, integer=False)),
    "keep_alive_seconds": (4, _number(0, 600, integer=False)),
    "max_connections": (4096, _number(1, 65_536)),
    "max_response_bytes": (8 * 1024 * 1024, _number(1024, MAX_CHAT_BYTES)),
}
_FIELDS: Final[dict[UpstreamKind, dict[str, tuple[Any, Check]]]] = {
    UpstreamKind.OPENAI: {**_COMMON, **_HTTP},
    UpstreamKind.ANTHROPIC: {**_COMMON, **_HTTP, "version": ("2023-06-01", _text(_API_VERSION))},
    UpstreamKind.LITELLM: {
        **_COMMON,
        "base_url": (None, _optional(_url)),
        "litellm_provider": (None, _text(_PROVIDER)),
    },
    UpstreamKind.COHERE: {**_ALL, **_HTTP},
    UpstreamKind.JINA: {**_ALL, **_HTTP},
    UpstreamKind.VOYAGE: {**_ALL, **_HTTP},
    UpstreamKind.TEI: {**_ALL, **_HTTP, "max_documents_per_call": (32, _number(1, MAX_RERANK_DOCUMENTS))},
}
