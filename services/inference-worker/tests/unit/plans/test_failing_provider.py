"""Whole plans against a provider that fails: the calls it gets, what they cost, when its circuit opens and closes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.model import CircuitState
from inference_worker.plans.choose import RetryPolicy
from inference_worker.plans.model import AttemptStarting, Candidate, CandidateRole, Finished
from inference_worker.plans.run import PlanRun
from inference_worker.providers.credentials import Credential, StaticCredentials
from inference_worker.providers.model import UpstreamFailed
from inference_worker.providers.ports import Completion, Upstream
from inference_worker.providers.transport.errors import refused
from worker_fakes import FakeCounter, FakeObserver, FakeProvider, a_plan

JSON = {"content-type": "application/json"}


@dataclass
class Failing(FakeProvider):
    """Keeps a journal of (model, credential), and fails each call of a model while `broken` says so."""

    broken: Callable[[str], UpstreamFailed | None] = lambda _: None
    hangs: bool = False
    journal: list[tuple[str, str]] = field(default_factory=list)

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Any = None) -> Completion:
        self.journal.append((model, credential.credential_id if credential is not None else ""))
        error = self.broken(model)
        if error is not None:
            raise error
        return await super().open("timeout" if self.hangs else model, body, stream=stream)


def a_refusal(status: int, body: str, **headers: str) -> UpstreamFailed:
    return refused(status, JSON | headers, body.encode(), ())


CREDENTIALS = (Credential("k1", "*", "s1"), Credential("k2", "*", "s2"))
CANDIDATES = (
    Candidate("u", "main", b'{"messages": []}'),
    Candidate("u", "next", b'{"messages": []}'),
    Candidate("u", "long", b'{"messages": []}', CandidateRole.CONTEXT_OVERFLOW),
    Candidate("u", "frank", b'{"messages": []}', CandidateRole.CONTENT_POLICY),
)

EMPTY_429 = '{"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}'
TOO_LONG = '{"error": {"code": "context_length_exceeded", "message": "too many tokens"}}'
FILTERED = '{"error": {"code": "content_filter", "message": "filtered"}}'
BOTH_KEYS, THEN_NEXT = ["main", "main"], ["main", "main", "next"]


@pytest.mark.parametrize(
    ("error", "calls", "reason"),
    [
        (a_refusal(401, '{"error": {"message": "bad key"}}'), BOTH_KEYS, "UPSTREAM_ACCOUNT_UNAVAILABLE"),
        (a_refusal(402, '{"error": {"message": "pay"}}'), BOTH_KEYS, "UPSTREAM_ACCOUNT_UNAVAILABLE"),
        (a_refusal(403, '{"error": {"message": "no"}}'), THEN_NEXT, None),
        (a_refusal(429, EMPTY_429), BOTH_KEYS, "UPSTREAM_ACCOUNT_UNAVAILABLE"),
        (a_refusal(429, "{}", **{"retry-after": "3"}), THEN_NEXT, None),
        (a_refusal(429, "{}", **{"retry-after-ms": "1500"}), THEN_NEXT, None),
        (a_refusal(500, "{}"), THEN_NEXT, None),
        (a_refusal(503, "{}"), THEN_NEXT, None),
        (a_refusal(400, TOO_LONG), ["main", "long"], None),
        (a_refusal(400, FILTERED), ["main", "frank"], None),
        (a_refusal(400, '{"error": {"message": "your fault"}}'), ["main"], "UPSTREAM_REJECTED"),
    ],
    ids=["401", "402", "403", "empty", "429 s", "429 ms", "500", "503", "context", "content", "400"],
)
async def test_each_refusal_is_followed_by_its_calls_and_nobody_pays_for_it(
    error: UpstreamFailed, calls: list[str], reason: str | None
):
    provider = Failing(broken=lambda model: error if model == "main" else None)
    finished = await run(provider, Circuits(), FakeClock())

    assert [model for model, _ in provider.journal] == calls
    assert finished.error is None if reason is None else finished.error is not None and finished.error.reason == reason
    answered = reason is None
    failed = finished.attempts[:-1] if answered else finished.attempts
    assert all(one.usage.known == (0, 0) for one in failed)
    assert {one.request_refused for one in failed} == {error.reason in {"CONTEXT_LENGTH_EXCEEDED", "CONTENT_FILTER"}}
    if answered:
        assert finished.attempts[-1].usage.known == (2, 8)


async def run(provider: Failing, circuits: Circuits, clock: FakeClock, *candidates: Candidate) -> Finished:
    """Run a plan whose announced attempts are all allowed."""
    upstream = Upstream(FakeCounter(), provider, credentials=StaticCredentials(CREDENTIALS))
    plan_run = PlanRun(
        a_plan(*(candidates or CANDIDATES), first_byte_timeout=0.02),
        upstreams={"u": upstream},
        clock=clock,
        observer=FakeObserver(),
        circuits=circuits,
        retries=RetryPolicy(retries=1, min_backoff=0.0, max_backoff=0.0),
    )

    async def emit(event: object) -> None:
        if isinstance(event, AttemptStarting):
            plan_run.proceed(event.number)

    return await plan_run.run(emit)


async def each_request(
    provider: Failing, circuits: Circuits, clock: FakeClock, requests: int, model: str = "main"
) -> Sequence[Finished]:
    """Run requests of one candidate, 0.1 s apart."""
    found = []
    for _ in range(requests):
        found.append(await run(provider, circuits, clock, Candidate("u", model, b'{"messages": []}')))
        clock.advance(timedelta(seconds=0.1))
    return found


@pytest.mark.parametrize("model", ["dead", "hung"])
async def test_a_dead_provider_gets_few_calls_and_is_called_again_soon_after_it_recovers(model: str):
    dead = a_refusal(500, "{}")
    provider, circuits, clock = Failing(), Circuits(), FakeClock()
    provider.broken = lambda _: dead if model == "dead" else None
    provider.hangs = model == "hung"
    before_it_opened = 0
    for number in range(300):
        await each_request(provider, circuits, clock, 1, model)
        if not before_it_opened and any(one.state is CircuitState.OPEN for one in circuits):
            before_it_opened = len(provider.journal)
            print(f"{model}: open after {before_it_opened} calls, {number + 1} requests")
    calls = len(provider.journal)
    print(f"{model}: {calls} calls for 300 requests while it failed")

    assert 0 < before_it_opened <= 10
    assert calls <= 1.1 * 300

    provider.broken, provider.hangs = lambda _: None, False
    waited = 0
    while any(one.error for one in await each_request(provider, circuits, clock, 1, model)):
        waited += 1
        assert waited < 150
    print(f"{model}: answered {waited * 0.1:.1f} s after it recovered")
