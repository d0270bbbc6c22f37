"""What happens in one simulation, drawn from its seed: jobs, faults, and the moments of both."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from services.orchestrator.tests.simulation.provider import Behaviour

TENANTS = ("ten_a", "ten_b", "ten_c")


class Trouble(StrEnum):
    """What is done to the fleet."""

    KILL_WORKER = "kill worker"
    FREEZE_WORKER = "freeze worker"
    DRAIN_WORKER = "drain worker"
    KILL_REPLICA = "kill replica"
    FREEZE_REPLICA = "freeze replica"
    PARTITION = "partition of workers and replicas"
    STORE_OUTAGE = "store outage"
    SLOW_STORE = "slow store"
    METERING_OUTAGE = "metering outage"
    NO_MONEY = "no money"
    LOSE_KAFKA = "lose Kafka"
    PAUSE_TENANT = "pause tenant"


@dataclass(frozen=True, slots=True)
class PlannedJob:
    job_id: str
    tenant_id: str
    at: float
    behaviour: Behaviour
    plan: str
    cost: int
    deadline_seconds: float
    cancel_after: float | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Times are seconds from the start."""

    jobs: tuple[PlannedJob, ...]
    troubles: tuple[tuple[float, Trouble], ...]
    loss: float
    """Of requests and replies between processes, and to the stores."""
    record_loss: float
    repetition: float
    delay: float
    stalls: float
    """Of the awaits of a process that call another one or a store."""
    skewed: bool
    workers: int
    replicas: int
    end_of_troubles: float
    offers: bool
    """Whether workers ask for what no worker has claimed; older ones do not."""


def draw_scenario(rng: random.Random) -> Scenario:
    """Each fault is in about half of the scenarios: what needs the absence of one is met as well as what needs it."""

    def sometimes(*values: float) -> float:
        return rng.choice((0.0, *values)) if rng.random() < 0.6 else 0.0

    span = rng.uniform(20, 90)
    kinds = [trouble for trouble in Trouble if rng.random() < 0.5] or list(Trouble)
    troubles = sorted((rng.uniform(0, span), rng.choice(kinds)) for _ in range(rng.randrange(9)))
    behaviours = [
        *[Behaviour.FAST] * 6,
        *[Behaviour.SLOW] * 2,
        *(one for one in Behaviour if one is not Behaviour.SLOW and rng.random() < 0.6),
    ]
    jobs = [_draw_job(rng, number, span, rng.choice(behaviours)) for number in range(rng.randrange(3, 15))]
    return Scenario(
        jobs=tuple(jobs),
        troubles=tuple(troubles),
        loss=sometimes(0.01, 0.05, 0.15),
        record_loss=sometimes(0.05, 0.3),
        repetition=sometimes(0.1, 0.5),
        delay=sometimes(0.1, 0.4),
        stalls=sometimes(0.005, 0.05),
        skewed=rng.random() < 0.5,
        workers=rng.randrange(1, 4),
        replicas=rng.randrange(1, 4),
        end_of_troubles=span,
        offers=rng.random() < 0.7,
    )


def _draw_job(rng: random.Random, number: int, span: float, behaviour: Behaviour) -> PlannedJob:
    return PlannedJob(
        job_id=f"job_{number}",
        tenant_id=rng.choice(TENANTS),
        at=rng.uniform(0, span * 0.7),
        behaviour=behaviour,
        plan=rng.choice(("", "", "pro", "batch")),
        cost=rng.choice((10, 50, 400)),
        deadline_seconds=rng.uniform(10, 60) if rng.random() < 0.08 else 86_400,
        cancel_after=rng.expovariate(1 / 10) if rng.random() < 0.2 else None,
    )
