"""Chat completions with the semantic cache: who gets the answer to another prompt, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from chassis.tenancy import as_caller
from chassis.testing import FakeClock, a_caller, a_principal
from orchestrator.chat.model import ChatEvent
from orchestrator.limits import Deadline
from orchestrator.response_cache.model import CacheControl, CachedAnswer, CacheMode, CachePolicy, Charge, ExactMode
from orchestrator.response_cache.ports import Purged
from orchestrator.response_cache.semantic import MAX_PUTS, Prompt, SemanticCache
from orchestrator.response_cache.serve import CacheUse
from orchestrator.routing.model import Route, Task
from orchestrator.workers.model import Chunk, Started
from values.money import NanoUsd, Price, cost, discount
from values.usage import CacheOutcome

from services.orchestrator.tests.fake_prompt_index import FakePromptIndex
from services.orchestrator.tests.fakes import PRICES, FakeWorkerClient
from services.orchestrator.tests.harness import (
    Harness,
    finished_of,
    payloads_of,
    reported,
    started_of,
    worker_finished,
)

ON = CachePolicy(ExactMode.ON, ttl=timedelta(minutes=10), semantic_threshold=0.95)
USAGE = reported(1_234, 567)
EVENT = b'{"choices":[{"index":0,"delta":{"content":"Paris"},"finish_reason":"stop"}]}'
CAPITAL, PARAPHRASE = "What is the capital of France?", "Tell me the capital of France, please."
MISS, HIT, SEMANTIC = CacheOutcome.MISS, CacheOutcome.HIT, CacheOutcome.SEMANTIC


def answering(event: bytes = EVENT) -> FakeWorkerClient:
    return FakeWorkerClient(Started(0), Chunk([event]), worker_finished(USAGE))


def a_harness(policy: CachePolicy = ON, worker: FakeWorkerClient | None = None, **changes: Any) -> Harness:
    return Harness(worker or answering(), policy=policy, **changes)


def a_body(prompt: object, **changes: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": prompt}]
    return {"model": "smollm2", "messages": messages} | changes


async def ask(harness: Harness, prompt: object, tenant: str = "ten_one", **changes: Any) -> list[ChatEvent]:
    asked = {name: changes.pop(name) for name in ("cache", "stream") if name in changes}
    principal = a_principal(tenant)
    number = len(harness.outbox.written)
    with as_caller(a_caller(principal)):
        events = await harness.generate(
            a_body(prompt, **changes), principal=principal, request_id=f"req_{number}", **asked
        )
        await harness.tasks.wait_idle()
    return events


async def outcomes(harness: Harness, *prompts: object, **changes: Any) -> list[CacheOutcome | None]:
    return [started_of(await ask(harness, prompt, **changes)).cache for prompt in prompts]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_of_the_same_meaning_gets_the_answer_without_a_provider_call(stream: bool) -> None:
    harness = a_harness()

    first, second = await ask(harness, CAPITAL, stream=stream), await ask(harness, PARAPHRASE, stream=stream)

    assert [started_of(first).cache, started_of(second).cache] == [MISS, SEMANTIC]
    assert payloads_of(second) == payloads_of(first)
    assert len(harness.worker.plans) == 1


async def test_an_equal_prompt_is_an_exact_hit_and_does_not_ask_for_the_meaning() -> None:
    harness = a_harness()

    assert await outcomes(harness, CAPITAL, CAPITAL) == [MISS, HIT]
    assert harness.prompts.finds == 1


async def test_without_a_threshold_only_equal_prompts_are_hits() -> None:
    harness = a_harness(replace(ON, semantic_threshold=None))

    assert await outcomes(harness, CAPITAL, PARAPHRASE) == [MISS, MISS]
    assert (harness.prompts.finds, harness.prompts.kept) == (0, {})


async def test_a_prompt_below_the_threshold_of_its_route_is_a_miss() -> None:
    harness = a_harness(replace(ON, semantic_threshold=0.97))

    assert await outcomes(harness, CAPITAL, PARAPHRASE) == [MISS, MISS]


@pytest.mark.parametrize(
    "other",
    ["What is the capital of Francia?", "What is not the capital of France?", "Was France the capital?", "1 France?"],
)
async def test_the_guard_keeps_other_prompts_apart(other: str) -> None:
    assert await outcomes(a_harness(), CAPITAL, other) == [MISS, MISS]


async def test_prompts_of_the_same_words_in_another_order_are_kept_apart() -> None:
    harness = a_harness()

    assert await outcomes(harness, "Did Anna beat Ben?", "Did Ben beat Anna?") == [MISS, MISS]
    assert len(harness.prompts.kept) == 1, "only the guard has kept them apart"


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.1},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"max_tokens": 7},
        {"messages": [{"role": "system", "content": "Be long."}, {"role": "user", "content": PARAPHRASE}]},
        {"messages": [{"role": "user", "content": "Hi."}, {"role": "user", "content": PARAPHRASE}]},
    ],
    ids=["sampling", "tools", "limit", "system prompt", "history"],
)
async def test_everything_but_the_last_words_has_to_be_equal(changes: dict[str, Any]) -> None:
    harness = a_harness()

    assert await outcomes(harness, CAPITAL) == [MISS]
    assert await outcomes(harness, PARAPHRASE, **changes) == [MISS]


@pytest.mark.parametrize(
    "instruction",
    [
        {"role": "system", "content": "You are a translator. Answer with the French text only."},
        {"role": "developer", "content": [{"type": "text", "text": "Correct the spelling of what the user writes."}]},
        {"role": "user", "content": "Repeat whatever I say next."},
        {"role": "system", "content": "Übersetze jede Nachricht ins Deutsche."},
    ],
)
async def test_where_the_prompt_is_the_text_to_work_on_only_equal_prompts_are_hits(instruction: dict[str, Any]) -> None:
    harness = a_harness()
    asked = [{"messages": [instruction, {"role": "user", "content": prompt}]} for prompt in (CAPITAL, PARAPHRASE)]

    first, second, equal = [await outcomes(harness, "", **changes) for changes in (*asked, asked[0])]

    assert [*first, *second, *equal] == [MISS, MISS, HIT]
    assert harness.prompts.kept == {}


async def test_two_tenants_with_equal_prompts_never_get_the_answers_of_each_other() -> None:
    harness, crossed = a_harness(), 0
    pairs = [(f"What is the sum of {n} and 1?", f"Please tell me what the sum of {n} and 1 is.") for n in range(200)]
    for step in (0, 1):
        for pair in pairs:
            for tenant in ("ten_a", "ten_b"):
                event = b'{"tenant":"%s","choices":[{"finish_reason":"stop"}]}' % tenant.encode()
                harness.worker.script = answering(event).script
                events = await ask(harness, pair[step], tenant)
                assert started_of(events).cache is (SEMANTIC if step else MISS)
                crossed += tenant.encode() not in b"".join(payloads_of(events))

    assert crossed == 0


@pytest.mark.parametrize("charge", list(Charge))
async def test_it_costs_what_the_policy_says(charge: Charge) -> None:
    policy = replace(ON, charge=charge, discount_percent=60)
    harness = a_harness(policy)
    harness.metering.prices = dict(PRICES)

    await ask(harness, CAPITAL)
    hit = await ask(harness, PARAPHRASE)

    key = "local/smollm2-135m-instruct"
    price = Price(key, f"prc_{key}", NanoUsd(PRICES[key][0]), NanoUsd(PRICES[key][1]))
    assert finished_of(hit).cost == cost(1_234, 567, discount(price, policy.percent_off))
    use = harness.outbox.written[-1].cache
    assert use is not None
    assert use.outcome == "semantic"


@pytest.mark.parametrize("mark", [b"tool_calls", b"function_call", b"images", b"audio"])
async def test_an_answer_that_acts_or_is_no_text_is_for_equal_requests_only(mark: bytes) -> None:
    event = b'{"choices":[{"index":0,"delta":{"%s":[{"index":0}]},"finish_reason":"stop"}]}' % mark
    harness = a_harness(worker=answering(event))

    assert await outcomes(harness, CAPITAL, PARAPHRASE, CAPITAL) == [MISS, MISS, HIT]
    assert harness.prompts.kept == {}


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": CAPITAL}, {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}],
        CAPITAL * 100,
        "\ufdfa" * 200,
    ],
    ids=["picture", "long", "long as it is read"],
)
async def test_a_prompt_that_is_no_short_text_is_not_looked_up(content: object) -> None:
    harness = a_harness()

    assert await outcomes(harness, content) == [MISS]
    assert harness.prompts.finds == 0


async def test_a_text_part_alone_is_a_prompt() -> None:
    harness = a_harness()
    assert await outcomes(harness, *([{"type": "text", "text": text}] for text in (CAPITAL, PARAPHRASE))) == [
        MISS,
        SEMANTIC,
    ]


async def test_a_request_can_refuse_to_read_or_to_write() -> None:
    harness = a_harness()

    assert await outcomes(harness, CAPITAL, cache=CacheControl(CacheMode.READ)) == [MISS]
    assert harness.prompts.kept == {}
    assert await outcomes(harness, CAPITAL, PARAPHRASE, cache=CacheControl(CacheMode.WRITE)) == [MISS, MISS]
    assert await outcomes(harness, f"{PARAPHRASE}!", cache=CacheControl(CacheMode.OFF)) == [None]
    assert await outcomes(harness, f"{PARAPHRASE}!") == [SEMANTIC]


@contextmanager
def failing(harness: Harness, how: str) -> Iterator[None]:
    setattr(harness.prompts, how, True)
    yield
    setattr(harness.prompts, how, False)


@pytest.mark.parametrize("how", ["down", "hangs"])
async def test_where_retrieval_fails_or_hangs_it_is_a_miss_after_a_bounded_wait(how: str) -> None:
    harness = a_harness(semantic_timeout=timedelta(milliseconds=20))
    await ask(harness, CAPITAL)

    with failing(harness, how):
        assert await outcomes(harness, PARAPHRASE) == [MISS]

    assert harness.prompts.failures >= 1
    assert harness.crashes == []
    assert await outcomes(harness, PARAPHRASE) == [HIT]


async def test_an_answer_that_is_purged_or_too_old_is_not_given() -> None:
    harness = a_harness()
    await ask(harness, CAPITAL)
    harness.clock.advance(timedelta(minutes=2))

    assert await outcomes(harness, PARAPHRASE, cache=CacheControl(CacheMode.READ, timedelta(minutes=1))) == [MISS]
    await harness.answers.purge(Purged("ten_one", None))
    assert await outcomes(harness, PARAPHRASE) == [MISS]


async def test_equal_requests_that_wait_for_a_prompt_of_the_same_meaning_get_it_too() -> None:
    harness = a_harness()

    assert await outcomes(harness, CAPITAL, PARAPHRASE, PARAPHRASE) == [MISS, SEMANTIC, SEMANTIC]
    assert harness.answers.locks == {}


async def test_equal_requests_at_once_find_the_answer_of_the_same_meaning_once() -> None:
    harness = a_harness()
    await ask(harness, CAPITAL)
    found_before, find = harness.prompts.finds, harness.prompts.find

    async def find_later(*arguments: Any) -> Any:
        await asyncio.sleep(0.01)
        return await find(*arguments)

    harness.prompts.find = find_later  # type: ignore[method-assign, assignment]
    with as_caller(a_caller(a_principal("ten_one"))):
        answers = await asyncio.gather(
            *(
                harness.generate(
                    a_body(PARAPHRASE), principal=a_principal("ten_one"), request_id=f"req_at_once_{number}"
                )
                for number in range(20)
            )
        )
    await harness.tasks.wait_idle()

    assert [started_of(events).cache for events in answers] == [SEMANTIC] * 20
    assert harness.prompts.finds == found_before + 1
    assert len(harness.worker.plans) == 1


async def test_prompts_that_are_kept_slowly_are_bounded() -> None:
    started: list[Coroutine[Any, Any, object]] = []
    index = FakePromptIndex()
    cache = SemanticCache(index, timedelta(seconds=1), started.append, index.fail)
    answer = CachedAnswer([EVENT], b"", USAGE, "local/m", "prc_1", 0)

    with as_caller(a_caller(a_principal("ten_one"))):
        for number in range(MAX_PUTS + 5):
            cache.keep(Prompt(b"p", CAPITAL), f"digest-{number}", "gpt", answer, timedelta(minutes=1))
        assert (len(started), index.failures) == (MAX_PUTS, 5)
        for put in started[:MAX_PUTS]:
            await put
        cache.keep(Prompt(b"p", CAPITAL), "later", "gpt", answer, timedelta(minutes=1))

        assert len(started) == MAX_PUTS + 1
        await started[-1]


async def test_a_document_that_is_nested_to_the_limit_is_not_looked_up() -> None:
    nested: Any = "x"
    for _ in range(253):
        nested = [nested]
    document = {"messages": [{"role": "user", "content": CAPITAL}], "logit_bias": nested}
    orjson.dumps(document)
    cache = a_harness().completions.cache
    assert cache is not None
    deadline = Deadline(timedelta(seconds=9), FakeClock())

    found = await cache.look_up(
        "ten_one",
        Route("gpt", Task.CHAT, (), FakeClock().now()),
        (),
        document,
        output_limit=None,
        use=CacheUse(CachePolicy(ExactMode.ON), CacheMode.ON, None),
        deadline=deadline,
        stream=True,
    )

    assert found is None
