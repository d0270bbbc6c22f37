"""Make one attempt of a delivery and record what came of it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from orchestrator.webhooks.model import Answer, ClaimedDelivery, Disabled
from orchestrator.webhooks.ports import DeliveryQueue, Sender
from orchestrator.webhooks.retry import next_attempt_at
from orchestrator.webhooks.sign import sign

TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResult:
    """What an attempt did; `answer` is None when none was made."""

    outcome: str
    answer: Answer | None
    seconds: float
    disabled: Disabled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Posts claimed deliveries and decides about their next attempts, by the database's clock."""

    queue: DeliveryQueue
    sender: Sender
    schedule: Sequence[timedelta]
    uniform: Callable[[float, float], float] = random.uniform

    async def __call__(self, claimed: ClaimedDelivery) -> DeliveryResult:
        """Raises Unavailable when the result could not be recorded: then the delivery is attempted again, as it is."""
        if not claimed.url:
            await self.queue.cancel(claimed)
            return DeliveryResult(outcome="cancelled", answer=None, seconds=0.0)
        headers = {
            "content-type": "application/json",
            "user-agent": "Argosy-Webhooks/1",
            **sign(claimed.secrets, claimed.event_id, claimed.claimed_at, claimed.payload),
        }
        began = monotonic()
        answer = await self.sender.post(claimed.url, headers, claimed.payload)
        took = timedelta(seconds=monotonic() - began)
        if answer.succeeded:
            await self.queue.record_success(claimed, answer, took)
            return DeliveryResult(outcome="succeeded", answer=answer, seconds=took.total_seconds())
        due = next_attempt_at(
            self.schedule,
            claimed.failures + 1,
            claimed.scheduled_at,
            claimed.claimed_at + took,
            uniform=self.uniform,
            retry_after=answer.retry_after,
        )
        disabled = await self.queue.record_failure(claimed, answer, took, due)
        outcome = "exhausted" if due is None else "failed"
        return DeliveryResult(outcome=outcome, answer=answer, seconds=took.total_seconds(), disabled=disabled)
