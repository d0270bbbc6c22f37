"""Which answers of chat completions are kept, and what is kept of them."""

from orchestrator.usage.model import Attempt
from orchestrator.workers.model import Finished as WorkerFinished
from values.usage import UNKNOWN_USAGE, CacheOutcome

from services.orchestrator.tests.harness import finished_of, worker_finished
from services.orchestrator.tests.unit.response_cache.test_chat import (
    ON,
    SCRIPT,
    USAGE,
    USAGE_PAYLOAD,
    a_harness,
    ask,
    outcomes,
)


async def test_an_answer_keeps_the_warnings_of_its_provider() -> None:
    finished = worker_finished(USAGE, usage_payload=USAGE_PAYLOAD)._replace(warnings=("The field top_k was dropped.",))
    harness = a_harness(ON, *SCRIPT[:-1], finished)
    answers = [await ask(harness, 1), await ask(harness, 2)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert [tuple(finished_of(events).warnings) for events in answers] == [finished.warnings, finished.warnings]


async def test_an_answer_of_unknown_usage_is_not_kept_with_the_usage_of_a_refused_one() -> None:
    finished = WorkerFinished((Attempt(1, 0, USAGE), Attempt(2, 0, UNKNOWN_USAGE)), usage_payload=USAGE_PAYLOAD)
    harness = a_harness(ON, *SCRIPT[:-1], finished)
    answers = [await ask(harness, 1), await ask(harness, 2)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.MISS]
