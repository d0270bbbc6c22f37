"""Which answers are kept: whole ones, that a model ended by itself or at the limit of the request."""

from collections.abc import Sequence

import orjson

KEPT_REASONS = frozenset({"stop", "length", "tool_calls", "function_call"})
"""Not `content_filter`: what a filter cut is no answer to give again."""

_REASON = b'"finish_reason"'
_REFUSALS = (b'"refusal":"', b'"refusal": "')
"""A model that refuses says so beside its content. Text of an answer has its quotes escaped, so it is none of these."""
_NO_REASON, _NO_REASON_SPACED = b'"finish_reason":null', b'"finish_reason": null'


def is_complete(payloads: Sequence[bytes], answers: int) -> bool:
    """Whether each of the `answers` choices has ended with a reason that is kept, and none is a refusal.

    `payloads` are the documents of a stream, or one body. Those of a stream that cannot have a reason are not parsed.
    """
    reasons: dict[object, object] = {}
    for payload in payloads:
        if any(refusal in payload for refusal in _REFUSALS):
            return False
        if _REASON not in payload or (answers == 1 and (_NO_REASON in payload or _NO_REASON_SPACED in payload)):
            continue
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        choices = document.get("choices") if isinstance(document, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("finish_reason") is not None:
                reasons[choice.get("index", 0)] = choice["finish_reason"]
    for reason in reasons.values():
        if not (isinstance(reason, str) and reason in KEPT_REASONS):
            return False
    return len(reasons) == answers
