"""Finalize: write down what was used, and say what it costs."""

from collections.abc import Iterable
from typing import NamedTuple

from chassis.ids import new_id

from orchestrator.domain.money import NanoUsd, Price
from orchestrator.domain.ports import Finished, Reservation
from orchestrator.domain.record import Recorder
from orchestrator.domain.request import ChatRequest, EmbedRequest
from orchestrator.domain.usage import AttemptUsage, RequestUsage, TokenUsage, counts, total


class Bill(NamedTuple):
    """What a request used over all its attempts, and what the tenant pays for it."""

    usage: TokenUsage
    cost: NanoUsd


async def finalize(
    request: ChatRequest | EmbedRequest, reservation: Reservation, finished: Finished, *, recorder: Recorder
) -> Bill:
    """Record every attempt at its reserved price, then answer the bill. No attempt at all releases the reservation."""
    priced = [(attempt, reservation.prices[attempt.candidate]) for attempt in finished.attempts]
    await recorder.record(
        settlement(
            request,
            [AttemptUsage(attempt.number, price.key, price.version, attempt.usage) for attempt, price in priced],
        )
    )
    cost = cost_of(((attempt.usage, price) for attempt, price in priced), reservation.held)
    return Bill(total(attempt.usage for attempt in finished.attempts), cost)


def settlement(request: ChatRequest | EmbedRequest, attempts: Iterable[AttemptUsage]) -> RequestUsage:
    """Return the event that settles a request's reservation."""
    who = request.principal
    return RequestUsage(new_id("evt_"), who.tenant_id, who.project_id, who.key_id, request.request_id, tuple(attempts))


def cost_of(used: Iterable[tuple[TokenUsage, Price]], held: NanoUsd) -> NanoUsd:
    """Return what the tenant pays: each attempt that can be counted, and together no more than was held.

    What nobody can count, and what is above, is the house's exposure; metering books the same.
    """
    known = ((counts(usage), price) for usage, price in used)
    return NanoUsd(min(held, sum(price.cost(*tokens) for tokens, price in known if tokens is not None)))
