"""Replicas share scores by a real Redis."""

import asyncio
import os

from chassis.ids import new_id
from chassis.redis import Redis
from chassis.settings import RedisSection
from chassis.testing import FakeClock
from orchestrator.reservations.model import TokenBound
from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import RouteCandidate
from orchestrator.routing.redis import RedisScores
from orchestrator.routing.schedule import ScoreSharing
from orchestrator.routing.scores import MIN_CALLS, Scores
from orchestrator.workers.model import CallOutcome, Candidate, ProviderCall


async def test_what_one_replica_counts_another_learns() -> None:
    candidate = RouteCandidate("u", new_id("model_"), 1000)
    plan = (Candidate(candidate.upstream, candidate.model, TokenBound(candidate.price_key, 1, 1)),)
    calls = tuple(ProviderCall(0, CallOutcome.SUCCEEDED, 0.2, 2.0) for _ in range(MIN_CALLS))
    async with Redis(RedisSection(url=os.environ["ARGOSY_REDIS_URL"])) as redis:
        channel, (own, other) = RedisScores(redis), (Scores(FakeClock()), Scores(FakeClock()))
        sharing, others = (ScoreSharing(one, channel, new_id("orchestrator_")) for one in (own, other))
        subscription = channel.subscription(others.receive)
        await subscription.start()
        try:
            async with asyncio.timeout(60):
                # Again until it listens.
                while not other.delay(candidate, RequestFacts(stream=True)):
                    own.learn(plan, calls, stream=True)
                    await sharing.share()
                    await asyncio.sleep(0.05)
        finally:
            await subscription.stop()
    assert own.delay(candidate, RequestFacts(stream=True)) > 0
