"""Kafka: records that are late, repeated, out of order or lost, and offsets that a consumer commits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.jobs.model import RunRef

SESSION_TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class Topic:
    """The records of all lanes. A record is with one consumer until it is committed, or its consumer is gone."""

    rng: random.Random
    loss: float
    repetition: float
    delay: float
    """The share of records that are late by up to half a minute."""
    on_records: Callable[[], None] = lambda: None
    waiting: list[RunRef] = field(default_factory=list)
    frozen_until: float = 0.0

    def publish(self, record: RunRef) -> None:
        if self.rng.random() < self.loss:
            return
        for _ in range(2 if self.rng.random() < self.repetition else 1):
            late = self.rng.uniform(0, 30) if self.rng.random() < self.delay else self.rng.expovariate(50)
            self.arrive_after(late, record)

    def arrive_after(self, seconds: float, record: RunRef) -> None:
        asyncio.get_running_loop().call_later(seconds, self._arrive, record)

    def take(self) -> RunRef | None:
        """Give a consumer any record: those of several partitions are in no order."""
        if not self.waiting or asyncio.get_running_loop().time() < self.frozen_until:
            return None
        return self.waiting.pop(self.rng.randrange(len(self.waiting)))

    def give_back(self, record: RunRef) -> None:
        """Its consumer is gone without a commit; another one gets it when the group has noticed."""
        self.arrive_after(self.rng.uniform(0, SESSION_TIMEOUT_SECONDS), record)

    def lose_all(self, frozen_seconds: float) -> None:
        """The broker is restarted without its data."""
        self.waiting.clear()
        self.frozen_until = asyncio.get_running_loop().time() + frozen_seconds
        asyncio.get_running_loop().call_later(frozen_seconds + 0.001, self.on_records)

    def _arrive(self, record: RunRef) -> None:
        self.waiting.append(record)
        self.on_records()
