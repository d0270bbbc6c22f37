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
    attempts: list[AttemptUsage] = []
    used: list[tuple[TokenUsage, Price]] = []
    for attempt in finished.attempts:
        price = reservation.prices[attempt.candidate]
        attempts.append(AttemptUsage(attempt.number, price.key, price.version, attempt.usage))
        used.append((attempt.usage, price))
    await recorder.record(settlement(request, attempts))
    return Bill(total([usage for usage, _ in used]), cost_of(used, reservation.held))


def settlement(request: ChatRequest | EmbedRequest, attempts: Iterable[AttemptUsage]) -> RequestUsage:
    """Return the event that settles a request's reservation."""
    who = request.principal
    return RequestUsage(new_id("evt_"), who.tenant_id, who.project_id, who.key_id, request.request_id, tuple(attempts))


def cost_of(used: Iterable[tuple[TokenUsage, Price]], held: NanoUsd) -> NanoUsd:
    """Return what the tenant pays: each attempt that can be counted, and together no more than was held.

    What nobody can count, and what is above, is the house's exposure; metering books the same.
    """
    cost = 0
    for usage, price in used:
        tokens = counts(usage)
        if tokens is not None:
            cost += price.cost(*tokens)
    return NanoUsd(min(held, cost))
