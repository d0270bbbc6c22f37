"""Which call is made next: credentials, retries, fallbacks for context and content, and who is told."""

import asyncio
from datetime import timedelta

import pytest
from chassis.testing import FakeClock
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import Ticket
from inference_worker.breakers.model import CircuitState
from inference_worker.breakers.retry_budget import RetryBudget
from inference_worker.plans.choose import Choice, RetryPolicy
from inference_worker.plans.model import AttemptOutcome, Candidate, CandidateRole
from inference_worker.plans.run import PlanRun
from inference_worker.providers.credentials import Credential, StaticCredentials
from inference_worker.providers.model import (
    ContentFiltered,
    ContextLengthExceeded,
    UpstreamAccountUnavailable,
    UpstreamFailed,
    UpstreamRateLimited,
)
from inference_worker.providers.ports import Upstream
from worker_fakes import FakeCounter, FakeObserver, FakeProvider, a_candidate, a_plan

HOUSE = tuple(Credential(name, "*", f"secret-{name}") for name in ("one", "two"))


def an_upstream(*credentials: Credential, required: bool = False) -> Upstream:
    return Upstream(
        FakeCounter(), FakeProvider(), credentials=StaticCredentials(credentials), requires_credential=required
    )


def a_choice(
    *candidates: Candidate,
    credentials: tuple[Credential, ...] = HOUSE,
    circuits: Circuits | None = None,
    retries: int = 0,
    required: bool = False,
) -> Choice:
    upstreams = {"fake": an_upstream(*credentials, required=required), "other": an_upstream()}
    return Choice(
        candidates or (a_candidate(),),
        upstreams,
        circuits or Circuits(),
        lambda: 0.0,
        policy=RetryPolicy(retries=retries),
        uniform=lambda _low, high: high,
    )


def a_run(*candidates: Candidate, circuits: Circuits, upstream: Upstream, observer: FakeObserver) -> PlanRun:
    upstreams = {"fake": upstream}
    return PlanRun(
        a_plan(*candidates), upstreams=upstreams, clock=FakeClock(), observer=observer, circuits=circuits,
        retries=RetryPolicy(),
    )  # fmt: skip


@pytest.mark.parametrize("error", [UpstreamAccountUnavailable("refused"), UpstreamRateLimited("slow down")])
def test_a_refused_credential_is_followed_by_the_next_without_a_wait(error: UpstreamFailed):
    choice = a_choice()
    first = choice.first()
    second = choice.after(error)

    assert first is not None
    assert second is not None
    assert {first.credential_id, second.credential_id} == {"one", "two"}
    assert second.wait == 0.0
    assert choice.after(error) is None


def test_a_failure_of_the_upstream_is_repeated_after_a_random_wait_and_then_goes_on():
    choice = a_choice(a_candidate(), a_candidate(upstream="other"), retries=1)
    choice.first()
    again, other = choice.after(UpstreamFailed("500")), choice.after(UpstreamFailed("500"))

    assert again is not None
    assert other is not None
    assert (again.place, again.wait) == (0, 0.1)
    assert (other.place, other.wait) == (1, 0.0)


def test_a_longer_wait_than_allowed_goes_on_at_once():
    choice = a_choice(a_candidate(), a_candidate(upstream="other"), retries=1)
    choice.first()
    other = choice.after(UpstreamFailed("503", retry_after=timedelta(seconds=30)))

    assert other is not None
    assert other.place == 1


def test_without_budget_nothing_is_repeated():
    circuits = Circuits(new_budget=lambda: RetryBudget(reserve=0.0))
    choice = a_choice(circuits=circuits, retries=1)
    choice.first()

    assert choice.after(UpstreamFailed("500")) is None


@pytest.mark.parametrize(
    ("error", "place"), [(ContextLengthExceeded("too long"), 2), (ContentFiltered("no"), 3), (UpstreamFailed("500"), 1)]
)
def test_context_overflow_and_content_policy_have_fallbacks_of_their_own(error: UpstreamFailed, place: int):
    roles = (CandidateRole.PRIMARY, CandidateRole.PRIMARY, CandidateRole.CONTEXT_OVERFLOW, CandidateRole.CONTENT_POLICY)
    choice = a_choice(*(Candidate("other", f"m{index}", b"{}", role) for index, role in enumerate(roles)))
    choice.first()
    call = choice.after(error)

    assert call is not None
    assert call.place == place


def test_without_candidates_for_context_overflow_the_next_one_is_tried_but_not_for_a_content_policy():
    choice = a_choice(a_candidate(), a_candidate(upstream="other"))
    choice.first()

    assert choice.after(ContentFiltered("no")) is None
    call = choice.after(ContextLengthExceeded("too long"))
    assert call is not None
    assert call.place == 1


def test_an_upstream_that_needs_a_credential_and_has_none_is_passed_over():
    choice = a_choice(credentials=(), required=True)

    assert choice.first() is None
    refusal = choice.refusal()
    assert isinstance(refusal, UpstreamAccountUnavailable)
    assert refusal.message == "the operator has no credential for the upstream"


def test_an_upstream_without_credentials_is_called_without_one():
    call = a_choice(credentials=()).first()

    assert call is not None
    assert call.credential is None


def test_a_resting_credential_of_the_tenants_is_not_called_the_operators():
    own, circuits = Credential("own", "ten_1", "mine"), Circuits()
    first = a_choice(credentials=(own,), circuits=circuits).first()
    assert first is not None
    first.circuit.account_refused(0.0, first.ticket)

    choice = a_choice(credentials=(own,), circuits=circuits)

    assert choice.first() is None
    assert choice.refusal().message == "the upstream refuses the credentials that you brought"


@pytest.mark.parametrize(("tenant", "own"), [("ten_1", True), ("*", False)])
async def test_who_brought_a_refused_credential_is_told(tenant: str, own: bool):
    class Refusing(FakeProvider):
        async def open(self, *_: object, **__: object):
            raise UpstreamAccountUnavailable("the upstream refused the operator's credential")

    upstream = Upstream(FakeCounter(), Refusing(), credentials=StaticCredentials((Credential("c", tenant, "s"),)))
    run = a_run(a_candidate(), circuits=Circuits(), upstream=upstream, observer=FakeObserver())
    finished = await run.run(_ignore)

    assert isinstance(finished.error, UpstreamAccountUnavailable)
    assert finished.error.own_credential is own
    assert ("you brought" in finished.error.message) is own


@pytest.mark.parametrize("leaving", ["cancelled while it waits", "the caller is gone"])
async def test_a_probe_that_was_not_made_is_given_back(leaving: str):
    circuits, observer = Circuits(), FakeObserver()
    upstream = an_upstream()
    # The first call fails; the second candidate's circuit is due for its probe.
    probed = circuits.circuit("fake", "default", "instant")
    for _ in range(5):
        probed.failed(-10.0, Ticket(-10.0, ""))
    run = a_run(a_candidate("400-else"), a_candidate(), circuits=circuits, upstream=upstream, observer=observer)
    upstream.provider.open = _failing  # type: ignore[union-attr, method-assign]
    announced = asyncio.Event()

    async def emit(_: object) -> None:
        announced.set()
        if leaving == "the caller is gone":
            raise ConnectionError

    task = asyncio.ensure_future(run.run(emit))
    await announced.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ConnectionError)):
        await task

    assert probed.state is CircuitState.OPEN
    ticket = probed.admit(0.0, "")
    assert ticket is not None
    assert ticket.probe


async def test_a_plan_whose_only_candidate_is_passed_over_makes_no_call_and_says_when_to_retry():
    circuits, observer, upstream = Circuits(), FakeObserver(), an_upstream()
    clock = FakeClock()
    circuit = circuits.circuit("fake", "default", "instant")
    for _ in range(5):
        circuit.failed(clock.monotonic(), Ticket(clock.monotonic(), ""))
    run = PlanRun(
        a_plan(a_candidate()), upstreams={"fake": upstream}, clock=clock, observer=observer, circuits=circuits
    )
    finished = await run.run(_ignore)

    assert [one.outcome for one in finished.attempts] == [AttemptOutcome.PASSED_OVER]
    assert finished.error is not None
    assert finished.error.reason == "UPSTREAM_UNAVAILABLE"
    assert finished.error.retry_after == timedelta(seconds=1)
    assert observer.passed == ["fake"]
    assert observer.started == []


async def _ignore(_: object) -> None:
    pass


async def _failing(*_: object, **__: object) -> None:
    raise UpstreamFailed("500", fallback=True, maybe_billed=False) from None
