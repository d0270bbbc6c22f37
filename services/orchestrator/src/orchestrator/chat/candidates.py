"""Makes a route's candidates ready: a body each, and the most tokens that it can use."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import orjson
from chassis.errors import InvalidRequest
from values.usage import AbsentClasses

from orchestrator.chat.field_table import FIELDS, short_name
from orchestrator.chat.media import Media, MediaKind, media_tokens
from orchestrator.chat.model import ParsedChat
from orchestrator.reservations.model import TokenBound
from orchestrator.routing.model import Provider, RouteCandidate, UnknownFields
from orchestrator.workers.model import AnswerCheck, Candidate

TEMPLATE_TOKENS = 256
"""The most that a chat template adds without a byte in the body: a default system prompt, marks around messages."""

MAX_WARNINGS = 10

SILENT = AbsentClasses(audio_input=True, audio_output=True)
TEXT_ONLY = AbsentClasses(cache_writes=True, audio_input=True, audio_output=True)

CACHE_MARK = b'"cache_control"'
"""Marks what is written to Anthropic's cache, anywhere in a body. A rendered body escapes no letter of it."""


class Rendered(NamedTuple):
    """Candidates that are ready to send, and what some of them do not get."""

    candidates: tuple[Candidate, ...]
    warnings: tuple[str, ...]


def chat_candidates(
    chat: ParsedChat,
    routed: Sequence[RouteCandidate],
    media: Sequence[Media],
    *,
    stream: bool,
    unknown_fields: UnknownFields = UnknownFields.DROP,
) -> Rendered:
    """Render a body with an output limit for each candidate, and bound its tokens.

    `unknown_fields` is for candidates that say nothing themselves. Raises `InvalidRequest` for a document that is
    nested too deeply.
    """
    if not chat.special_fields:
        return Rendered(tuple([_candidate(chat, one, stream, media, ()) for one in routed]), ())
    dropped = [fields_to_drop(chat.special_fields, candidate, unknown_fields) for candidate in routed]
    candidates = tuple(
        _candidate(chat, candidate, stream, media, names) for candidate, names in zip(routed, dropped, strict=True)
    )
    return Rendered(candidates, drop_warnings(chain.from_iterable(dropped)))


def warnings_of(
    chat: ParsedChat, routed: Sequence[RouteCandidate], unknown_fields: UnknownFields = UnknownFields.DROP
) -> tuple[str, ...]:
    """Return the warnings of `chat_candidates` without its bodies: a cached answer needs none."""
    if not chat.special_fields:
        return ()
    dropped = (fields_to_drop(chat.special_fields, candidate, unknown_fields) for candidate in routed)
    return drop_warnings(chain.from_iterable(dropped))


def _candidate(
    chat: ParsedChat, candidate: RouteCandidate, stream: bool, media: Sequence[Media], dropped: Sequence[str]
) -> Candidate:
    limit = min(chat.output_limit or candidate.max_output_tokens, candidate.max_output_tokens)
    completed = _complete(chat.document, candidate, limit, stream)
    for name in dropped:
        del completed[name]
    body = _render(completed)
    prediction = completed.get("prediction")
    # The tokens of a prediction that turn out wrong are billed as output, beside the limit.
    output = limit if prediction is None else limit + len(_render(prediction))
    bound = TokenBound(
        candidate.price_key,
        input_bound(body, media, candidate),
        output * chat.answers,
        absent_classes(body, media, candidate),
    )
    return Candidate(candidate.upstream, candidate.model, bound, body, candidate.role)


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


def with_checks(candidates: Sequence[Candidate], checks: Mapping[str, AnswerCheck]) -> tuple[Candidate, ...]:
    """Add what answers are checked for, by price key."""
    return tuple(one._replace(answer_check=checks.get(one.bound.price_key, one.answer_check)) for one in candidates)


def input_bound(body: bytes, media: Sequence[Media], candidate: RouteCandidate) -> int:
    """Return the most tokens that a candidate can read from `body`, in which `media` are.

    Each token of a byte- or character-level tokenizer stands for at least one byte of UTF-8, so there are no more
    tokens than bytes; the JSON around the text is margin, and schemas of tools and answers are text. Two things are in
    no byte: what the chat template adds (`TEMPLATE_TOKENS`), and media, which count by the provider's tariff instead of
    their base64. A tokenizer that normalizes one character into many can exceed the bound; metering books the excess to
    exposure, not to the tenant.
    """
    bound = len(body) + TEMPLATE_TOKENS
    for one in media:
        bound += media_tokens(one, candidate) - one.inlined_bytes
    return bound


def absent_classes(body: bytes, media: Sequence[Media], candidate: RouteCandidate) -> AbsentClasses:
    """Return the classes of tokens that a candidate certainly does not use.

    Anthropic's API writes to its cache only what is marked; of others, proxies among them, it is not known. Sound is
    written only where the request asks for it, which `field_table` refuses.
    """
    writes_nothing = candidate.provider is Provider.ANTHROPIC and CACHE_MARK not in body
    if not media:
        return TEXT_ONLY if writes_nothing else SILENT
    no_sound = all(one.kind is not MediaKind.AUDIO for one in media)
    return AbsentClasses(writes_nothing, no_sound, audio_output=True)


def fields_to_drop(special: Sequence[str], candidate: RouteCandidate, default: UnknownFields) -> tuple[str, ...]:
    """Return which of the names that `parse_chat` found special this candidate does not get."""
    if not special or (candidate.unknown_fields or default) is UnknownFields.PASS:
        return ()
    return tuple(name for name in special if not _documented(name, candidate))


def _documented(name: str, candidate: RouteCandidate) -> bool:
    field = FIELDS.get(name)
    if field is None:
        return False
    # Without a provider the candidate may be of any.
    return field.providers is None or candidate.provider is None or candidate.provider in field.providers


def drop_warnings(dropped: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each dropped field, at most `MAX_WARNINGS`."""
    names = sorted(set(dropped))
    if not names:
        return ()
    shown = names if len(names) <= MAX_WARNINGS else names[: MAX_WARNINGS - 1]
    sentences = [f"The field {short_name(name)} was dropped: the model's API does not have it." for name in shown]
    if len(shown) < len(names):
        sentences.append(f"{len(names) - len(shown)} more fields were dropped.")
    return tuple(sentences)
