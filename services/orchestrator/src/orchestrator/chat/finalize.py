"""Finalize: record what was used, and price it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chassis.tenancy import Principal
from values.money import NanoUsd, cost
from values.usage import TokenUsage, total_usage

from orchestrator.reservations.attempts import AttemptLog
from orchestrator.usage.model import Attempt, AttemptUsage, CacheUse, RightSizingUse
from orchestrator.usage.record import UsageRecorder


class PricedUsage(NamedTuple):
    """What a request used over all its attempts, and what the tenant pays for it."""

    usage: TokenUsage
    cost: NanoUsd


def price_attempts(attempts: AttemptLog, made: Sequence[Attempt]) -> tuple[tuple[AttemptUsage, ...], PricedUsage]:
    """Return every attempt made at its reserved price, and what the tenant pays for all of them."""
    used = attempts.priced(made)
    bounded = attempts.bounded(made)
    paid = used if bounded is made else attempts.priced(bounded)
    return used, PricedUsage(total_usage([one.usage for one in used]), capped_cost(paid, attempts.reservation.held))


async def finalize(
    principal: Principal,
    request_id: str,
    attempts: AttemptLog,
    made: Sequence[Attempt],
    *,
    recorder: UsageRecorder,
    cache: CacheUse | None = None,
    stale: AttemptUsage | None = None,
    right_sizing: RightSizingUse | None = None,
) -> PricedUsage:
    """Record every attempt made at its reserved price, then return the cost. No attempts release the reservation.

    `stale` stands for a cached answer that was given after all attempts failed; the tenant pays for it beside them.
    """
    used, priced = price_attempts(attempts, made)
    if stale is not None:
        used = (*used, stale)
        paid = (*attempts.priced(attempts.bounded(made)), stale)
        priced = PricedUsage(stale.usage, capped_cost(paid, attempts.reservation.held))
    await recorder.record(principal, request_id, used, cache, right_sizing)
    return priced


def capped_cost(used: Iterable[AttemptUsage], held: NanoUsd) -> NanoUsd:
    """Return what the tenant pays: the cost of all attempts of known usage, at most what was held.

    `used` is within the bounds of the attempts. Unknown usage and the excess are exposure, which the tenant does not
    pay; metering computes the same.
    """
    total = 0
    for attempt in used:
        tokens = attempt.usage.known
        if tokens is not None:
            total += cost(*tokens, attempt.price, attempt.usage.details)
    return NanoUsd(min(held, total))
