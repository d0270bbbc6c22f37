"""What an embedding tells about the circuit of its upstream: nothing, unless the provider was called."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.breakers.circuits import Circuits
from inference_worker.embeddings.run import EmbedRequest, EmbedResult, EmbedRun
from inference_worker.embeddings.token_ids import LoadTokenBytes, TokenBytes
from inference_worker.plans.attempt import IMPATIENT_SECONDS
from inference_worker.plans.model import AttemptOutcome, Candidate
from inference_worker.providers.model import Embeddings, UpstreamTimedOut
from inference_worker.token_counting.tiktoken import load_token_bytes
from values.embeddings import EmbeddingInput
from values.usage import NO_USAGE
from worker_fakes import FakeEmbedder, FakeObserver, an_upstream

SHORT = timedelta(seconds=0.05)


@dataclass
class Slow(FakeEmbedder):
    """Moves the clock while it is called."""

    clock: FakeClock | None = None
    seconds: float = 0.0

    async def embed(self, *args: Any, **fields: Any) -> Embeddings:
        if self.clock is not None:
            self.clock.advance(timedelta(seconds=self.seconds))
        return await super().embed(*args, **fields)


async def run(
    circuits: Circuits,
    model: str,
    *inputs: EmbeddingInput,
    upstream: str = "fake",
    load: LoadTokenBytes = load_token_bytes,
    seconds: float = 0.0,
    deadline: timedelta = SHORT,
) -> EmbedResult:
    clock = FakeClock()
    found = an_upstream(embedder=Slow(clock=clock, seconds=seconds))
    return await EmbedRun(
        EmbedRequest(Candidate(upstream, model), inputs or ("a",), deadline),
        upstreams={"fake": found},
        clock=clock,
        observer=FakeObserver(),
        load_token_bytes=load,
        circuits=circuits,
    ).run()


@pytest.mark.parametrize(("seconds", "failures"), [(IMPATIENT_SECONDS - 1, 0), (IMPATIENT_SECONDS, 1)])
async def test_a_deadline_counts_as_a_failure_only_when_it_left_time_enough(seconds: float, failures: int) -> None:
    circuits = Circuits()
    result = await run(circuits, "timeout", seconds=seconds)

    assert isinstance(result.error, UpstreamTimedOut)
    assert circuits.circuit("fake", "default", "timeout").figures() == (failures, failures, 0)


@pytest.mark.parametrize("upstream", ["fake", "nowhere"])
async def test_what_this_worker_cannot_do_tells_nothing_of_the_upstream(upstream: str) -> None:
    def load(_: str) -> TokenBytes:
        raise FileNotFoundError

    circuits = Circuits()
    result = await run(circuits, "instant", (1,), upstream=upstream, load=load, deadline=timedelta(seconds=60))

    assert result.error is not None
    assert result.error.reason == "UPSTREAM_FAILED"
    assert circuits.circuit(upstream, "default", "instant").figures() == (0, 0, 0)


async def test_a_deadline_that_ends_before_the_call_costs_nothing_and_tells_nothing() -> None:
    circuits = Circuits()
    result = await run(circuits, "instant", (9906,) * 100, deadline=timedelta(0), seconds=100)

    assert isinstance(result.error, UpstreamTimedOut)
    assert (result.attempt.outcome, result.attempt.usage) == (AttemptOutcome.REJECTED, NO_USAGE)
    assert circuits.circuit("fake", "default", "instant").figures() == (0, 0, 0)
