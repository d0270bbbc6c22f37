"""Prepare: everything that is decided, and reserved, before a provider is called."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from chassis.clock import Clock
from chassis.errors import InvalidRequest, RemoteError
from values.money import NanoUsd, nano_usd_to_usd

from orchestrator.chat.candidates import Rendered, chat_candidates, warnings_of, with_checks
from orchestrator.chat.facts import facts_of, seed_of
from orchestrator.chat.media import Media, dearest, find_media
from orchestrator.chat.model import ChatRequest, ParsedChat, RequestTooLarge
from orchestrator.chat.parse import parse_chat
from orchestrator.context.model import Source
from orchestrator.context.ports import RetrievalClient
from orchestrator.context.render import with_context
from orchestrator.context.search import find_context
from orchestrator.flags.model import Feature, FeatureDisabled
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache, FlagSnapshot
from orchestrator.flags.switches import require_feature, require_model, require_tools, usable_candidates
from orchestrator.limits import Deadline, Limits, deadline_of
from orchestrator.reservations.model import Reservation, refused_input_prices
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import Route, RouteCandidate, Task, UnknownFields
from orchestrator.routing.order import Choice, choose
from orchestrator.workers.model import Candidate, Plan

LARGE_BODY_BYTES = 100_000
"""From here on a thread costs less than the time for which media may hold up the event loop."""

_REQUEST_ID = re.compile(r"[!-~]{1,128}", re.ASCII)


class Draft(NamedTuple):
    """A chat completion that could run, before anything is reserved for it."""

    request: ChatRequest
    deadline: Deadline
    route: Route
    chat: ParsedChat
    """With the context in its document."""
    media: tuple[Media, ...]
    chosen: Choice
    """The candidates of the route that may answer, in the order to try them. Their bodies are rendered when the answer
    is not in the cache."""
    sources: tuple[Source, ...]
    warnings: tuple[str, ...]


class Prepared(NamedTuple):
    """A chat completion with a reservation, ready to run."""

    request: ChatRequest
    plan: Plan
    reservation: Reservation
    sources: tuple[Source, ...]
    warnings: tuple[str, ...] = ()


class Checked(NamedTuple):
    """A chat completion that would be accepted, as far as money and context leave it open."""

    cost_tokens: int
    """The most that the most expensive candidate can use, with as much context as may be added."""
    warnings: tuple[str, ...]


async def check(
    request: ChatRequest,
    *,
    routes: RouteCache,
    limits: Limits,
    unknown_fields: UnknownFields = UnknownFields.DROP,
    flags: FlagCache = NO_FLAGS,
) -> Checked:
    """Check all that `prepare` checks without calling a peer, in the same order, and raise the same errors."""
    route, chat, media = await _parse(request, routes, flags.snapshot())
    added = 0 if chat.retrieval is None else limits.max_context_bytes
    chosen = _choose(request, chat, media, route, routes, added=added)
    candidates, warnings = _render(request, chat, chosen, media, limits=limits, unknown_fields=unknown_fields)
    tokens = max(candidate.bound.input_tokens + candidate.bound.output_tokens for candidate in candidates)
    return Checked(tokens if chat.retrieval is None else tokens + limits.max_context_bytes, warnings)


async def prepare(
    request: ChatRequest,
    *,
    routes: RouteCache,
    retrieval: RetrievalClient,
    reservations: Reservations,
    clock: Clock,
    limits: Limits,
    unknown_fields: UnknownFields = UnknownFields.DROP,
    flags: FlagCache = NO_FLAGS,
) -> Prepared:
    """Choose the route, add context, render a body per candidate, and reserve the cost of the most expensive one.

    Without a price or enough budget no provider is called; nothing costs anything before the reservation.
    Raises `InvalidRequest`, `ModelNotFound`, `FeatureDisabled`, `NoEligibleCandidate`, `RequestTooLarge`,
    `Unavailable`, `DeadlineExceeded`, and errors of retrieval and metering.
    """
    draft = await draft_chat(
        request,
        routes=routes,
        retrieval=retrieval,
        clock=clock,
        limits=limits,
        unknown_fields=unknown_fields,
        flags=flags,
    )
    return await reserve_draft(
        draft, routes=routes, reservations=reservations, limits=limits, unknown_fields=unknown_fields
    )


async def draft_chat(
    request: ChatRequest,
    *,
    routes: RouteCache,
    retrieval: RetrievalClient,
    clock: Clock,
    limits: Limits,
    unknown_fields: UnknownFields = UnknownFields.DROP,
    flags: FlagCache = NO_FLAGS,
) -> Draft:
    """Choose the route, and add context. Nothing is rendered or reserved yet. Raises as `prepare`."""
    deadline = deadline_of(request.timeout, limits, clock)
    route, chat, media = await _parse(request, routes, flags.snapshot())
    added = 0 if chat.retrieval is None else limits.max_context_bytes
    chosen = _choose(request, chat, media, route, routes, added=added)
    sources: tuple[Source, ...] = ()
    if chat.retrieval is not None:
        sources = await find_context(
            chat.document, chat.retrieval, retrieval=retrieval, deadline=deadline, limits=limits
        )
        chat = chat._replace(document=with_context(chat.document, sources))
    warnings = warnings_of(chat, chosen.candidates, unknown_fields)
    return Draft(request, deadline, route, chat, media, chosen, sources, warnings)


async def reserve_draft(
    draft: Draft,
    *,
    routes: RouteCache,
    reservations: Reservations,
    limits: Limits,
    unknown_fields: UnknownFields = UnknownFields.DROP,
) -> Prepared:
    """Render a body per candidate, and reserve the cost of the most expensive one.

    Raises `InvalidRequest`, `RequestTooLarge`, `DeadlineExceeded`, and errors of metering.
    """
    request, deadline = draft.request, draft.deadline
    candidates, _ = _render(
        request, draft.chat, draft.chosen, draft.media, limits=limits, unknown_fields=unknown_fields
    )
    bounds = [candidate.bound for candidate in candidates]
    try:
        reservation = await reservations.reserve(request.principal, request.request_id, bounds, deadline)
    except RemoteError as error:
        if draft.media and error.reason == "INSUFFICIENT_QUOTA":
            raise _with_media(error, draft.media, draft.chosen.candidates) from error
        raise
    routes.prices.learn(reservation.prices)
    if draft.chosen.cheap:
        reservation = reservation._replace(cheap=draft.chosen.cheap)
    # The first byte of an answer that is not streamed arrives when all of it is written.
    first_byte_timeout = limits.first_byte_timeout if request.stream else limits.non_streamed_timeout
    plan = Plan(
        request.request_id, candidates, request.stream, deadline.left(), first_byte_timeout, limits.idle_timeout
    )
    return Prepared(request, plan, reservation, draft.sources, draft.warnings)


def check_request_id(request_id: str) -> None:
    """Raise `InvalidRequest` for an id that could not be stored: it is a key in two databases."""
    if _REQUEST_ID.fullmatch(request_id) is None:
        raise InvalidRequest("request_id is not 1 to 128 visible ASCII characters", param="request_id")


async def _parse(
    request: ChatRequest, routes: RouteCache, flags: FlagSnapshot
) -> tuple[Route, ParsedChat, tuple[Media, ...]]:
    check_request_id(request.request_id)
    route = routes.table().resolve(request.principal.tenant_id, request.model, Task.CHAT)
    if flags.has_switches:
        route = _usable(request, route, flags)
    chat = parse_chat(request.body, max(candidate.max_output_tokens for candidate in route.candidates))
    if flags.has_switches:
        require_tools(flags, chat.document.get("tools"), request.model, request.principal, request.flags)
        chat = _with_allowed_retrieval(request, chat, flags)
    if len(request.body) < LARGE_BODY_BYTES:
        return route, chat, find_media(chat.document)
    # A document is decoded and inflated, which may take long.
    return route, chat, await asyncio.to_thread(find_media, chat.document)


def _usable(request: ChatRequest, route: Route, flags: FlagSnapshot) -> Route:
    """Return the route without the candidates whose upstream is off. Raises FeatureDisabled."""
    require_model(flags, Feature.CHAT, request.model, request.principal, request.flags)
    usable = usable_candidates(flags, route.candidates, request.model, request.principal, request.flags)
    return route if len(usable) == len(route.candidates) else replace(route, candidates=usable)


def _with_allowed_retrieval(request: ChatRequest, chat: ParsedChat, flags: FlagSnapshot) -> ParsedChat:
    """Leave out an optional retrieval that is switched off. Raises FeatureDisabled for one that is required."""
    if chat.retrieval is None:
        return chat
    try:
        require_feature(flags, Feature.RETRIEVAL, request.principal, request.flags, model=request.model)
    except FeatureDisabled:
        if not chat.retrieval.optional:
            raise
        return chat._replace(retrieval=None)
    return chat


def _choose(
    request: ChatRequest, chat: ParsedChat, media: Sequence[Media], route: Route, routes: RouteCache, *, added: int
) -> Choice:
    if (chat.output_limit or 0) <= route.fixed_up_to:
        return Choice(route.candidates)
    facts = facts_of(request, chat, media, route, added=added)
    return choose(route, facts, seed_of(request, chat, route), routes.measures)


def _render(
    request: ChatRequest,
    chat: ParsedChat,
    chosen: Choice,
    media: Sequence[Media],
    *,
    limits: Limits,
    unknown_fields: UnknownFields,
) -> Rendered:
    rendered = chat_candidates(chat, chosen.candidates, media, stream=request.stream, unknown_fields=unknown_fields)
    if chosen.checks and not request.stream:
        rendered = rendered._replace(candidates=with_checks(rendered.candidates, chosen.checks))
    _check_size(rendered.candidates, limits)
    return rendered


def _with_media(error: RemoteError, media: Sequence[Media], routed: Sequence[RouteCandidate]) -> RemoteError:
    """Name the part that may cost most in a refusal for lack of money."""
    prices = refused_input_prices(error)
    known = len(prices) == len(routed)
    part, tokens, amount = dearest(media, routed, prices if known else [NanoUsd(1)] * len(routed))
    cost = f", ${nano_usd_to_usd(amount)}" if known else ""
    message = f"{error.message}; {part.path} ({part.kind}) counts up to {tokens} tokens{cost}"
    return RemoteError(error.kind, error.reason, message, param=part.path, retry_after=error.retry_after)


def _check_size(candidates: Sequence[Candidate], limits: Limits) -> None:
    size = sum(len(candidate.body) for candidate in candidates)
    if size > limits.max_plan_bytes:
        raise RequestTooLarge(f"the request takes {size} bytes for its candidates, at most {limits.max_plan_bytes} fit")
