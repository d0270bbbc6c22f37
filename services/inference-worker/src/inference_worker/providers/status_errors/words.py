"""What providers say in words only.

The words can quote the request. A refusal that counts against our account is therefore recognised by the beginning of
the message, which a client cannot write: else a tenant could have a credential of all tenants dropped.
"""

import re

from inference_worker.providers.status_errors.model import RefusalKind

REQUEST_STATUSES = frozenset({400, 403, 404, 413, 422, 429, 500})
"""Statuses under which a refusal of the request itself was seen."""

_I = re.IGNORECASE

CONTEXT = re.compile(
    r"maximum context length|context[_ ]length[_ ]exceeded|context (?:window|length|size|limit)\b.{0,80}\bexceed"
    r"|exceeds? (?:the |this |its )?(?:model'?s? |available |maximum |max )*context"
    r"|(?:prompt|input|request|total length of all messages)(?: text)? is too long"
    r"|longer than the (?:model'?s|maximum) (?:context|model) length|prompt too (?:long|large)"
    r"|input token count.{0,40}exceeds|input tokens exceed the configured limit|too many (?:input )?tokens"
    r"|too large for model with \d+ maximum context|`inputs` tokens \+ `max_new_tokens` must be"
    r"|must have less than \d+ tokens|input(?: \(\d+ tokens\))? is too large to process"
    r"|reduce (?:the length of|your) (?:the )?(?:messages|prompt)|longer than the maximum model length",
    _I,
)
TOO_LARGE_FOR_THE_RATE = re.compile(r"request too large for\b", _I)
"""One request has more tokens than a minute allows: waiting never helps, a shorter prompt does."""

CONTENT = re.compile(
    r"content (?:management|filtering|filter|safety|moderation) policy|content[_ ]policy|responsible ai"
    r"|blocked by content filter|(?:flagged|blocked).{0,60}(?:policy|moderation|safety)|usage polic(?:y|ies)"
    r"|violat\w+.{0,40}(?:polic(?:y|ies)|guidelines)|requires moderation on",
    _I,
)
UNSUPPORTED = re.compile(
    r"unsupported (?:parameter|value|field)|unrecognized request argument|unknown parameter|unrecognized (?:key|field)"
    r"|unknown field|(?:parameter|field|argument).{0,60}(?:is|are) not supported|does not support (?:the |this )?"
    r"(?:parameter|field|tools?|functions?|images?|json|assistant message prefill)"
    r"|extra (?:inputs|fields) (?:are )?not permitted"
    r'|unknown name "',
    _I,
)
MODEL = re.compile(
    r"\bmodel\b.{0,120}(?:does not exist|not found|not available|is not supported|is unavailable|no longer available)"
    r"|^model:\s|not a valid model|no such model|unknown model|no endpoints found|deployment for this resource does not"
    r"|models/\S+ is not found",
    _I,
)

# Beginnings of messages.
ACCOUNT_BEGINS = re.compile(
    r"(?:your credit balance|insufficient (?:balance|credits|quota|funds)|you exceeded your current quota"
    r"|billing|payment required|(?:this|your) (?:organization|account).{0,40}(?:out of|no) (?:credits|balance)"
    r"|.{0,40}prepayment credits are depleted|this request requires more credits"
    r"|you (?:have|are) (?:run )?out of credits)",
    _I,
)
CREDENTIAL_BEGINS = re.compile(
    r"(?:api key (?:not valid|not found|expired)|incorrect api key|invalid (?:api key|x-api-key|authentication|token)"
    r"|access denied due to invalid subscription key|user location is not supported"
    r"|this organization has been disabled)",
    _I,
)
OVERLOAD_BEGINS = re.compile(
    r"(?:overloaded|the (?:engine|model|server|service) is (?:currently )?overloaded|model is overloaded"
    r"|loading model|service (?:is )?(?:temporarily )?unavailable|the model is overloaded)",
    _I,
)
INPUT_BEGINS = re.compile(
    r"(?:(?:gemini )?(?:image|audio|video|file) input is not (?:supported|enabled)"
    r"|failed to parse messages: unsupported content part type|tools param requires --jinja)",
    _I,
)
"""llama.cpp answers 500 to what the loaded model cannot read, and a gateway 503: no retry helps, another model does."""

PARAM_IN_WORDS = (
    re.compile(r"unsupported (?:parameter|value|field)s?:? ['\"`]([\w.\[\]-]{1,80})['\"`]", _I),
    re.compile(r"unrecognized request arguments? supplied: ([\w.-]{1,80})", _I),
    re.compile(r"unknown (?:parameter|field|name):? ['\"`]([\w.\[\]-]{1,80})['\"`]", _I),
    re.compile(r"^([a-z_][\w.\[\]]{0,80}): ", re.ASCII),
)


def kind_of_words(message: str, status: int) -> RefusalKind | None:
    """Return what the words of a refusal with `status` are about; None when they do not tell."""
    if ACCOUNT_BEGINS.match(message):
        return RefusalKind.ACCOUNT_EMPTY
    if CREDENTIAL_BEGINS.match(message):
        return RefusalKind.CREDENTIAL_REFUSED
    if OVERLOAD_BEGINS.match(message):
        return RefusalKind.OVERLOADED
    if INPUT_BEGINS.match(message):
        return RefusalKind.UNSUPPORTED_PARAMETER
    if TOO_LARGE_FOR_THE_RATE.match(message):
        return RefusalKind.CONTEXT_TOO_LONG
    return _about_the_request(message) if status in {400, 403, 413, 422} else _model_in(message, status)


def param_in_words(message: str) -> str | None:
    """Return the parameter that the words name, for providers that have no field for it."""
    return next((match.group(1) for pattern in PARAM_IN_WORDS if (match := pattern.search(message))), None)


def _about_the_request(message: str) -> RefusalKind | None:
    for pattern, kind in (
        (CONTEXT, RefusalKind.CONTEXT_TOO_LONG),
        (CONTENT, RefusalKind.CONTENT_FILTERED),
        (UNSUPPORTED, RefusalKind.UNSUPPORTED_PARAMETER),
        (MODEL, RefusalKind.UNKNOWN_MODEL),
    ):
        if pattern.search(message):
            return kind
    return None


def _model_in(message: str, status: int) -> RefusalKind | None:
    # vLLM and llama.cpp answered 500 to a prompt that was too long in some versions.
    return RefusalKind.CONTEXT_TOO_LONG if status == 500 and CONTEXT.search(message) else None
