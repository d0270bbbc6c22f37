"""Why a provider refused a call, from status, headers and body."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import orjson

from inference_worker.providers.status_errors import anthropic, fastapi, google, openai, plain
from inference_worker.providers.status_errors.fields import as_object
from inference_worker.providers.status_errors.model import ErrorFields, Refusal, RefusalKind
from inference_worker.providers.status_errors.waits import provider_wait, wait_in_words
from inference_worker.providers.status_errors.words import kind_of_words, param_in_words

_Codes = Mapping[str, RefusalKind]
_Read = Callable[[dict[str, Any]], ErrorFields | None]

DIALECTS: tuple[tuple[_Read, _Codes, _Codes], ...] = (
    (anthropic.read, anthropic.CODES, anthropic.TYPES),
    (google.read, google.CODES, {}),
    (openai.read, openai.CODES, openai.TYPES),
    (fastapi.read, openai.CODES, openai.TYPES),
)
"""Tried in this order: the shape that only one of them writes comes first."""

STATUSES = {
    401: RefusalKind.CREDENTIAL_REFUSED,
    402: RefusalKind.ACCOUNT_EMPTY,
    403: RefusalKind.CREDENTIAL_REFUSED,
    404: RefusalKind.UNKNOWN_MODEL,
    407: RefusalKind.CREDENTIAL_REFUSED,
    408: RefusalKind.TIMEOUT,
    409: RefusalKind.OVERLOADED,
    425: RefusalKind.OVERLOADED,
    429: RefusalKind.RATE_LIMITED,
    498: RefusalKind.CREDENTIAL_REFUSED,
    503: RefusalKind.OVERLOADED,
    504: RefusalKind.TIMEOUT,
    524: RefusalKind.TIMEOUT,
    529: RefusalKind.OVERLOADED,
}
"""All other statuses of 400 and more: the request below 500, the server from 500 on."""

_PRECISE_STATUSES = frozenset({401, 402, 407, 429, 503, 529})
"""Their meaning is narrower than that of a coarse `type`."""

_MORE_PRECISE_WORDS: Mapping[RefusalKind, Collection[RefusalKind]] = {
    RefusalKind.RATE_LIMITED: {RefusalKind.ACCOUNT_EMPTY, RefusalKind.CONTEXT_TOO_LONG},
    RefusalKind.SERVER_ERROR: frozenset(RefusalKind),
}
"""What the words say of codes that are given for several causes; `server_error` is said of all that went wrong."""

_WAITING = frozenset({RefusalKind.RATE_LIMITED, RefusalKind.OVERLOADED, RefusalKind.ACCOUNT_EMPTY})


def classify(status: int, headers: Mapping[str, str], body: bytes, *, now: datetime) -> Refusal:
    """Return why a call was refused. `headers` have names in lower case.

    For an error inside of an answer with status 200, the status in the body takes its place; without one, the error
    counts as a server error unless its code or its words tell more.
    """
    fields, codes, types = _read(body)
    decisive = status if status >= 400 else fields.status or 200
    kind = _kind(fields, codes, types, decisive)
    wait = provider_wait(headers, now) or fields.wait
    if wait is None and kind in _WAITING:
        wait = wait_in_words(fields.message)
    param = fields.param
    if param is None and kind in {RefusalKind.UNSUPPORTED_PARAMETER, RefusalKind.INVALID_REQUEST}:
        param = param_in_words(fields.message)
    code = next(iter(fields.codes), None)
    return Refusal(kind, decisive if decisive >= 400 else 500, fields.message, param, code, wait)


def _read(body: bytes) -> tuple[ErrorFields, Mapping[str, RefusalKind], Mapping[str, RefusalKind]]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return plain.read(body), {}, {}
    if isinstance(document, list):
        # Gemini's OpenAI endpoint writes its error object as the only one of a list.
        document = next((one for one in document if isinstance(one, dict)), {})
    document = {"error": document} if isinstance(document, str) else as_object(document)
    for read, codes, types in DIALECTS:
        fields = read(document)
        if fields is not None:
            return fields, codes, types
    return ErrorFields(), {}, {}


def _kind(
    fields: ErrorFields, codes: Mapping[str, RefusalKind], types: Mapping[str, RefusalKind], status: int
) -> RefusalKind:
    if fields.kind is not None:
        return fields.kind
    by_words = kind_of_words(fields.message, max(status, 400))
    by_code = next((codes[code] for code in fields.codes if code in codes), None)
    if by_words is not None and (by_code is None or by_words in _MORE_PRECISE_WORDS.get(by_code, ())):
        return by_words
    # Some proxies write `server_error` for every refusal; these statuses tell more.
    if status in _PRECISE_STATUSES and by_code in {None, RefusalKind.SERVER_ERROR}:
        return STATUSES[status]
    if by_code is not None:
        return by_code
    by_type = next((types[code] for code in fields.codes if code in types), None)
    if by_type is not None and status < 500:
        return by_type
    if status in STATUSES:
        return STATUSES[status]
    return RefusalKind.INVALID_REQUEST if 400 <= status < 500 else RefusalKind.SERVER_ERROR
