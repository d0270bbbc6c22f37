"""What a call for scores is billed by, and what is said of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.breakers.circuits import Circuits
from inference_worker.plans.model import AttemptOutcome, Candidate
from inference_worker.providers.model import Scores, UpstreamFailed, UpstreamProtocolError
from inference_worker.rerank.run import RerankRequest, RerankResult, RerankRun
from values.usage import NO_USAGE, UNKNOWN_USAGE, BillingUnit, ExposureCause, TokenUsage, UsageSource
from worker_fakes import FakeObserver, an_upstream

TOKENS, SEARCHES = BillingUnit.TOKENS, BillingUnit.SEARCH_UNITS


def reported(count: int) -> TokenUsage:
    return TokenUsage(UsageSource.REPORTED, count, 0)


class Answers:
    """A reranker with one answer or error."""

    def __init__(self, answer: Scores | UpstreamFailed) -> None:
        self._answer = answer

    async def rerank(self, model: str, query: str, documents: Sequence[str], /, *, credential: Any = None) -> Scores:
        if isinstance(self._answer, UpstreamFailed):
            raise self._answer
        return self._answer


async def run(answer: Scores | UpstreamFailed, unit: BillingUnit, circuits: Circuits | None = None) -> RerankResult:
    request = RerankRequest(Candidate("one", "m"), "q", ("a", "b"), timedelta(seconds=5), unit)
    upstreams = {"one": an_upstream(reranker=Answers(answer))}
    clock, observer = FakeClock(), FakeObserver()
    return await RerankRun(request, upstreams=upstreams, clock=clock, observer=observer, circuits=circuits).run()


@pytest.mark.parametrize(
    ("unit", "tokens", "searches", "usage"),
    [
        (TOKENS, reported(9), 1, reported(9)),
        (SEARCHES, reported(9), 1, reported(1)),
        # A count in the other unit has no price: it is never taken for one in this.
        (TOKENS, None, 1, UNKNOWN_USAGE),
        (SEARCHES, reported(9), None, UNKNOWN_USAGE),
    ],
)
async def test_only_what_is_reported_in_the_unit_of_the_price_is_billed(
    unit: BillingUnit, tokens: TokenUsage | None, searches: int | None, usage: TokenUsage
) -> None:
    result = await run(Scores((0.5, 0.1), tokens, searches), unit)
    broken = UpstreamProtocolError("odd")
    broken.usage, broken.search_units = tokens, searches
    failure = await run(broken, unit)

    assert (result.attempt.outcome, result.attempt.usage) == (AttemptOutcome.SUCCEEDED, usage)
    assert failure.attempt.usage == usage
    if usage is UNKNOWN_USAGE:
        assert result.attempt.exposure_cause is ExposureCause.PROVIDER


async def test_documents_without_a_score_are_said() -> None:
    odd = await run(Scores((0.5, 0.0), None, unscored=1), TOKENS)
    well = await run(Scores((0.5, 0.0), None), TOKENS)

    assert odd.warnings == ("The model left 1 of 2 documents without a score: they have 0.",)
    assert well.warnings == ()


async def test_a_reranker_that_fails_again_and_again_is_not_called_and_costs_nothing() -> None:
    circuits = Circuits()
    for _ in range(10):
        await run(UpstreamFailed("the upstream failed with status 500"), TOKENS, circuits)

    result = await run(Scores((0.5, 0.1), reported(9)), TOKENS, circuits)

    assert (result.attempt.outcome, result.attempt.usage) == (AttemptOutcome.PASSED_OVER, NO_USAGE)
    assert result.error is not None
    assert result.error.reason == "UPSTREAM_UNAVAILABLE"
