"""Finalize: record what was used, and price it."""

from collections.abc import Iterable
from typing import NamedTuple

from chassis.tenancy import Principal
from values.money import NanoUsd, Price, cost
from values.usage import TokenUsage, total_usage

from orchestrator.reservations.model import Reservation
from orchestrator.usage.model import Attempt, AttemptUsage
from orchestrator.usage.record import UsageRecorder


class PricedUsage(NamedTuple):
    """What a request used over all its attempts, and what the tenant pays for it."""

    usage: TokenUsage
    cost: NanoUsd


async def finalize(
    principal: Principal,
    request_id: str,
    reservation: Reservation,
    attempts: Iterable[Attempt],
    *,
    recorder: UsageRecorder,
) -> PricedUsage:
    """Record every attempt at its reserved price, then return the cost. No attempts release the reservation."""
    recorded: list[AttemptUsage] = []
    used: list[tuple[TokenUsage, Price]] = []
    for attempt in attempts:
        price = reservation.prices[attempt.candidate]
        recorded.append(AttemptUsage(attempt.number, price.key, price.version, attempt.usage))
        used.append((attempt.usage, price))
    await recorder.record(principal, request_id, recorded)
    return PricedUsage(total_usage([usage for usage, _ in used]), capped_cost(used, reservation.held))


def capped_cost(used: Iterable[tuple[TokenUsage, Price]], held: NanoUsd) -> NanoUsd:
    """Return what the tenant pays: the cost of all attempts of known usage, at most what was held.

    Unknown usage and the excess are exposure, which the tenant does not pay; metering computes the same.
    """
    total = 0
    for usage, price in used:
        tokens = usage.known
        if tokens is not None:
            total += cost(*tokens, price)
    return NanoUsd(min(held, total))
