"""Which error a refusal is, and how much of the upstream's message clients may see."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from chassis.clock import SystemClock

from inference_worker.providers.model import (
    ContentFiltered,
    ContextLengthExceeded,
    UnsupportedParameter,
    UpstreamAccountUnavailable,
    UpstreamFailed,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimedOut,
)
from inference_worker.providers.status_errors.classify import classify
from inference_worker.providers.status_errors.model import Refusal, RefusalKind

MAX_ERROR_BODY_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 500
_CLOCK = SystemClock()

_CREDENTIAL = re.compile(r"\b(?:sk|pk|rk|key|Bearer)[-_ ][A-Za-z0-9_\-*.]{6,}", re.IGNORECASE)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]+")

_REQUEST_ERRORS: Mapping[RefusalKind, tuple[type[UpstreamRejected | UpstreamModelNotFound], str]] = {
    RefusalKind.CONTEXT_TOO_LONG: (ContextLengthExceeded, "the request has too many tokens for the model"),
    RefusalKind.CONTENT_FILTERED: (ContentFiltered, "the upstream's content policy refused the request"),
    RefusalKind.UNSUPPORTED_PARAMETER: (UnsupportedParameter, "the upstream does not take a parameter of the request"),
    RefusalKind.UNKNOWN_MODEL: (UpstreamModelNotFound, "the upstream does not have this model"),
    RefusalKind.INVALID_REQUEST: (UpstreamRejected, "the upstream rejected the request with status {status}"),
}
_OTHER_ERRORS: Mapping[RefusalKind, tuple[Callable[..., UpstreamFailed], str]] = {
    RefusalKind.CREDENTIAL_REFUSED: (UpstreamAccountUnavailable, "the upstream refused the operator's credential"),
    RefusalKind.ACCOUNT_EMPTY: (UpstreamAccountUnavailable, "the operator's account at the upstream is empty"),
    RefusalKind.RATE_LIMITED: (UpstreamRateLimited, "the upstream limits its rate"),
    RefusalKind.OVERLOADED: (UpstreamOverloaded, "the upstream is overloaded, with status {status}"),
    RefusalKind.TIMEOUT: (partial(UpstreamTimedOut, maybe_billed=False), "the upstream timed out"),
    RefusalKind.SERVER_ERROR: (UpstreamFailed, "the upstream failed with status {status}"),
}
"""Their messages are ours: the upstream's may name our account, and may quote a credential."""


def refused(status: int, headers: Mapping[str, str], body: bytes, secrets: tuple[str, ...]) -> UpstreamFailed:
    """Return the error for a refused call; see `classify`. No message contains one of `secrets`."""
    return refusal_error(classify(status, headers, body[:MAX_ERROR_BODY_BYTES], now=_CLOCK.now()), secrets)


def refusal_error(refusal: Refusal, secrets: tuple[str, ...]) -> UpstreamFailed:
    """Return the error for a refusal. It carries the upstream's words only when they are about the request."""
    code = redact(refusal.code, secrets) if refusal.code else None
    if refusal.kind in _REQUEST_ERRORS:
        request_error, default = _REQUEST_ERRORS[refusal.kind]
        words = redact(refusal.message, secrets) or default.format(status=refusal.status)
        param = redact(refusal.param, secrets) if refusal.param else None
        return request_error(words, param=param, provider_code=code)
    error, words = _OTHER_ERRORS[refusal.kind]
    # An account that is empty does not fill by waiting.
    wait = None if refusal.kind in {RefusalKind.CREDENTIAL_REFUSED, RefusalKind.ACCOUNT_EMPTY} else refusal.wait
    made = error(words.format(status=refusal.status), retry_after=wait, provider_code=code)
    if isinstance(made, UpstreamAccountUnavailable) and refusal.status == 403:
        made.account_wide = False
    return made


def redact(message: str, secrets: tuple[str, ...]) -> str:
    """Return one line of bounded length without `secrets` and without anything that looks like a credential."""
    for secret in secrets:
        message = message.replace(secret, "***")
    message = _CREDENTIAL.sub("***", message)
    return _CONTROL_CHARACTERS.sub(" ", message).strip()[:MAX_MESSAGE_CHARACTERS]
