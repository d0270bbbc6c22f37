"""Replicas learn from each other how fast candidates answer."""

from dataclasses import dataclass, field

import orjson
import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from orchestrator.reservations.model import TokenBound
from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import RouteCandidate
from orchestrator.routing.schedule import ScoreSharing
from orchestrator.routing.scores import MIN_CALLS, Scores
from orchestrator.workers.model import CallOutcome, Candidate, ProviderCall

FAST = RouteCandidate("a", "m", 1000)
PLAN = (Candidate(FAST.upstream, FAST.model, TokenBound(FAST.price_key, 1, 1)),)
STREAM = RequestFacts(stream=True)


@dataclass
class Hub:
    """A Redis in memory."""

    replicas: list[ScoreSharing] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    down: bool = False

    async def publish(self, message: bytes) -> None:
        if self.down:
            raise Unavailable("redis does not answer")
        self.messages.append(message)
        for one in self.replicas:
            await one.receive(message)

    def replica(self) -> tuple[Scores, ScoreSharing]:
        scores = Scores(FakeClock())
        sharing = ScoreSharing(scores, self, f"orchestrator_{len(self.replicas)}")
        self.replicas.append(sharing)
        return scores, sharing


@pytest.fixture
def hub() -> Hub:
    return Hub()


def learn(scores: Scores, times: int) -> None:
    for _ in range(times):
        scores.learn(PLAN, (ProviderCall(0, CallOutcome.SUCCEEDED, 0.2, 2.0),), stream=True)


async def test_calls_of_all_replicas_count_together(hub: Hub) -> None:
    (first, shares), (second, other_shares) = hub.replica(), hub.replica()
    learn(first, MIN_CALLS - 1)
    learn(second, 1)
    await shares.share()
    await other_shares.share()

    assert first.delay(FAST, STREAM) == second.delay(FAST, STREAM) == pytest.approx(0.2)


async def test_each_call_is_told_once_and_not_passed_on(hub: Hub) -> None:
    (first, shares), (_, other_shares) = hub.replica(), hub.replica()
    learn(first, 3)
    for one in (shares, shares, other_shares):
        await one.share()

    assert [orjson.loads(one)["scores"] for one in hub.messages] == [[["a/m", True, 3, pytest.approx(0.6)]]]


async def test_without_redis_each_replica_knows_its_own(hub: Hub) -> None:
    (first, shares), (second, _) = hub.replica(), hub.replica()
    hub.down = True
    learn(first, MIN_CALLS)
    await shares.share()

    assert first.delay(FAST, STREAM) == pytest.approx(0.2)
    assert second.delay(FAST, STREAM) == 0


@pytest.mark.parametrize(
    "scores",
    [7, [7], [["a/m"]], [["a/m", True, -1, 0.1]], [["a/m", True, 1, -5.0]], [["a/m", True, 1, 1e300]],
     [[1, True, 1, 0.1]], [["a/m", "yes", 1, 0.1]], [["a/m", True, "many", 0.1]]],
)  # fmt: skip
async def test_messages_that_cannot_be_read_change_nothing(hub: Hub, scores: object) -> None:
    own, sharing = hub.replica()
    await sharing.receive(orjson.dumps({"replica": "other", "scores": scores}))
    await sharing.receive(b"{")
    learn(own, MIN_CALLS)

    assert own.delay(FAST, STREAM) == pytest.approx(0.2)
