"""Chat completions with the cache."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import ArgosyError, Kind, RemoteError, Unavailable
from chassis.testing import a_principal
from orchestrator.chat.model import ChatEvent
from orchestrator.response_cache.model import CacheControl, CacheMode, CachePolicy, Charge, ExactMode
from orchestrator.response_cache.ports import Purged
from orchestrator.workers.model import Chunk, Started
from orchestrator.workers.model import Finished as WorkerFinished
from values.money import NanoUsd, Price, cost, discount
from values.usage import CacheOutcome

from services.orchestrator.tests.fake_answers import FOR_ALL
from services.orchestrator.tests.fakes import PRICES, FakeWorkerClient
from services.orchestrator.tests.harness import (
    HELLO,
    Harness,
    finished_of,
    payloads_of,
    reported,
    started_of,
    worker_finished,
)

EVENTS = [
    b'{"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"hm"},"finish_reason":null}]}',
    b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]},"finish_reason":null}]}',
    b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
]
USAGE = reported(1_234, 567)
USAGE_PAYLOAD = b'{"choices":[],"usage":{"prompt_tokens":1234}}'
SCRIPT = (Started(0), Chunk(EVENTS[:1]), Chunk(EVENTS[1:]), worker_finished(USAGE, usage_payload=USAGE_PAYLOAD))
BODY = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
NON_STREAMED = (Started(0), Chunk([BODY[:9], BODY[9:]]), worker_finished(USAGE, usage_payload=USAGE_PAYLOAD))
ON = CachePolicy(ExactMode.ON, ttl=timedelta(minutes=10))
KEY = "local/smollm2-135m-instruct"
PRICE = Price(KEY, f"prc_{KEY}", NanoUsd(PRICES[KEY][0]), NanoUsd(PRICES[KEY][1]))
FAILED = RemoteError(Kind.UPSTREAM, "UPSTREAM_ERROR", "the model failed")


def a_harness(policy: CachePolicy = ON, *script: Any, **changes: Any) -> Harness:
    return Harness(FakeWorkerClient(*(script or SCRIPT)), policy=policy, **changes)


async def ask(harness: Harness, number: int, **changes: Any) -> list[ChatEvent]:
    events = await harness.generate(request_id=f"req_{number}", **changes)
    await harness.tasks.wait_idle()
    return events


def outcomes(*answers: list[ChatEvent]) -> list[CacheOutcome | None]:
    return [started_of(events).cache for events in answers]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_equal_request_gets_the_same_events_without_a_provider_call(stream: bool) -> None:
    harness = a_harness() if stream else a_harness(ON, *NON_STREAMED)
    first = await ask(harness, 1, stream=stream)
    harness.clock.advance(timedelta(seconds=42))
    second = await ask(harness, 2, stream=stream)

    assert outcomes(first, second) == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert started_of(second).cache_age_seconds == 42
    if stream:
        assert payloads_of(second) == payloads_of(first) == EVENTS
    else:
        assert b"".join(payloads_of(second)) == b"".join(payloads_of(first)) == BODY
    assert finished_of(second).usage_payload == USAGE_PAYLOAD
    assert finished_of(second).usage == USAGE
    assert len(harness.worker.plans) == 1


async def test_a_stream_is_not_given_to_a_request_for_a_whole_body() -> None:
    harness = a_harness()
    answers = [await ask(harness, 1, stream=True), await ask(harness, 2, stream=False)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.MISS]


@pytest.mark.parametrize(
    ("charge", "off"), [(Charge.FREE, 100), (Charge.DISCOUNTED, 1), (Charge.DISCOUNTED, 67), (Charge.FULL, 0)]
)
async def test_a_hit_costs_what_the_policy_says_and_reserves_exactly_that(charge: Charge, off: int) -> None:
    harness = a_harness(replace(ON, charge=charge, discount_percent=off or 50))
    harness.metering.prices = dict(PRICES)
    await ask(harness, 1)
    harness.metering.prices = {**PRICES, KEY: (PRICES[KEY][0] * 3, PRICES[KEY][1] * 3)}
    hit = await ask(harness, 2)

    current = PRICE._replace(
        input_per_million=NanoUsd(PRICE.input_per_million * 3), output_per_million=NanoUsd(PRICE.output_per_million * 3)
    )
    expected = discount(current, off)
    assert finished_of(hit).cost == cost(1_234, 567, expected)
    usage = harness.outbox.written[-1]
    assert usage.request_id == "req_2"
    assert [(one.number, one.price.key, one.price.version, one.usage) for one in usage.attempts] == [
        (1, KEY, expected.version, USAGE)
    ]
    assert usage.cache is not None
    assert (usage.cache.outcome, usage.cache.model, usage.cache.attempt) == (
        "hit",
        "smollm2",
        1,
    )
    if charge is Charge.FREE:
        assert finished_of(hit).cost == 0
        assert "req_2" not in harness.metering.reserved
    else:
        (bound,), _ = harness.metering.reserved["req_2"]
        assert bound[:3] == (KEY, 1_234, 567)
        assert harness.metering.discounts["req_2"] == off


async def test_a_hit_that_the_budget_cannot_pay_is_refused_and_another_may_follow() -> None:
    harness = a_harness(replace(ON, charge=Charge.FULL))
    await ask(harness, 1)
    harness.metering.available = cost(1_234, 567, PRICE) - 1
    with pytest.raises(RemoteError, match="budget"):
        await ask(harness, 2)
    harness.metering.available += 1
    assert outcomes(await ask(harness, 3)) == [CacheOutcome.HIT]


async def test_a_miss_says_so_in_its_usage_event() -> None:
    harness = a_harness()
    await ask(harness, 1)
    (usage,) = harness.outbox.written
    assert usage.cache == (CacheOutcome.MISS, "smollm2", 0)


async def test_a_request_without_the_cache_is_as_it_was() -> None:
    harness = a_harness(CachePolicy())
    events = await ask(harness, 1)
    assert outcomes(events) == [None]
    assert harness.outbox.written[0].cache is None
    assert harness.answers.finds == 0


async def test_two_hundred_equal_requests_at_once_are_one_provider_call() -> None:
    gate = asyncio.Event()
    harness = a_harness(ON, Started(0), gate, *SCRIPT[1:], max_tasks=1_000)
    asked = [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in range(200)]
    while not harness.worker.calls:
        await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*asked)
    await harness.tasks.wait_idle()

    assert len(harness.worker.plans) == 1
    assert sorted(outcomes(*answers), key=str) == ["hit"] * 199 + ["miss"]
    assert all(payloads_of(events) == EVENTS for events in answers)
    assert len(harness.outbox.written) == 200
    assert not harness.answers.locks


async def test_replicas_wait_for_the_one_that_holds_the_lock() -> None:
    gate = asyncio.Event()
    harness = a_harness(ON, Started(0), gate, *SCRIPT[1:])
    other = a_harness()
    other.answers = harness.answers
    assert other.completions.cache is not None
    object.__setattr__(other.completions.cache.cache, "store", harness.answers)
    first = asyncio.create_task(harness.generate(request_id="req_1"))
    while not harness.worker.calls:
        await asyncio.sleep(0)
    second = asyncio.create_task(other.generate(request_id="req_2"))
    while harness.answers.finds < 3:  # the second has looked twice
        await asyncio.sleep(0.001)
    gate.set()
    assert outcomes(await first, await second) == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert not other.worker.plans


async def test_a_leader_that_fails_lets_the_next_one_lead() -> None:
    gate = asyncio.Event()
    harness = a_harness(ON, gate, worker_finished(reported(0, 0), error=FAILED))
    asked = [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in range(3)]
    while not harness.worker.calls:
        await asyncio.sleep(0)
    harness.worker.script = SCRIPT
    gate.set()
    results = await asyncio.gather(*asked, return_exceptions=True)

    answers = [result for result in results if isinstance(result, list)]
    assert sum(isinstance(result, ArgosyError) for result in results) == 1
    assert sorted(outcomes(*answers), key=str) == ["hit", "miss"]
    assert len(harness.worker.plans) == 2


async def test_who_has_waited_for_long_makes_its_own_call() -> None:
    gate = asyncio.Event()
    harness = a_harness(ON, Started(0), gate, *SCRIPT[1:], max_wait=timedelta(0))
    first = asyncio.create_task(harness.generate(request_id="req_1"))
    while not harness.worker.calls:
        await asyncio.sleep(0)
    second = asyncio.create_task(harness.generate(request_id="req_2"))
    while len(harness.worker.calls) < 2:
        await asyncio.sleep(0)
    gate.set()
    assert outcomes(await first, await second) == [CacheOutcome.MISS, CacheOutcome.MISS]


async def test_without_redis_every_request_is_answered() -> None:
    harness = a_harness()
    harness.answers.down = True
    answers = [await ask(harness, number) for number in (1, 2)]
    assert outcomes(*answers) == [CacheOutcome.MISS, CacheOutcome.MISS]
    assert len(harness.worker.plans) == 2
    harness.answers.down = False
    assert outcomes(await ask(harness, 3), await ask(harness, 4)) == [CacheOutcome.MISS, CacheOutcome.HIT]


@pytest.mark.parametrize(
    "end",
    [
        (Chunk(EVENTS[:2]), worker_finished(USAGE)),
        (Chunk([EVENTS[2].replace(b"stop", b"content_filter")]), worker_finished(USAGE)),
        (Chunk(EVENTS), worker_finished(USAGE, error=FAILED)),
        (Chunk(EVENTS), WorkerFinished(())),
    ],
)
async def test_an_answer_that_is_not_whole_is_not_kept(end: tuple[Any, ...]) -> None:
    harness = a_harness(ON, Started(0), *end)
    await ask(harness, 1)
    assert not harness.answers.answers
    assert {token for token, _ in harness.answers.locks.values()} <= {FOR_ALL}


async def test_an_answer_that_is_too_large_is_given_and_not_kept() -> None:
    harness = a_harness(max_entry_bytes=50)
    assert payloads_of(await ask(harness, 1)) == EVENTS
    assert not harness.answers.answers
    assert {token for token, _ in harness.answers.locks.values()} <= {FOR_ALL}


async def test_an_entry_that_was_cut_is_a_miss_and_is_made_anew() -> None:
    harness = a_harness()
    await ask(harness, 1)
    ((key, (data, expires)),) = harness.answers.answers.items()
    harness.answers.answers[key] = (data[:-1], expires)
    assert outcomes(await ask(harness, 2), await ask(harness, 3)) == [CacheOutcome.MISS, CacheOutcome.HIT]


@pytest.mark.parametrize(
    ("control", "first", "second"),
    [
        ({"mode": "off"}, None, None),
        ({"mode": "read"}, CacheOutcome.MISS, CacheOutcome.MISS),
        ({"mode": "write"}, CacheOutcome.MISS, CacheOutcome.MISS),
        ({"mode": "on"}, CacheOutcome.MISS, CacheOutcome.HIT),
        ({"max_age": 4}, CacheOutcome.MISS, CacheOutcome.MISS),
        ({"max_age": 5}, CacheOutcome.MISS, CacheOutcome.HIT),
    ],
)
async def test_a_request_controls_the_cache(control: object, first: object, second: object) -> None:
    harness = a_harness()
    body = {**HELLO, "argosy": {"cache": control}}
    answers = [await ask(harness, 1, body=body)]
    harness.clock.advance(timedelta(seconds=5))
    answers.append(await ask(harness, 2, body=body))
    assert outcomes(*answers) == [first, second]
    assert "argosy" not in harness.sent()


async def test_requests_that_wait_together_keep_their_own_limits_of_age() -> None:
    harness = a_harness()
    await ask(harness, 1)
    harness.clock.advance(timedelta(seconds=60))
    young = CacheControl(None, timedelta(seconds=10))
    answers = await asyncio.gather(
        *(harness.generate(request_id=f"req_{number}") for number in (2, 3)),
        *(harness.generate(request_id=f"req_{number}", cache=young) for number in (4, 5)),
    )
    assert [started_of(events).cache_age_seconds for events in answers[:2]] == [60, 60]
    assert sorted(outcomes(*answers[2:]), key=str) == ["hit", "miss"]
    assert all(started_of(events).cache_age_seconds == 0 for events in answers[2:])


async def test_a_request_that_only_writes_refreshes_the_answer() -> None:
    harness = a_harness()
    await ask(harness, 1)
    harness.clock.advance(timedelta(minutes=9))
    await ask(harness, 2, cache=CacheControl(CacheMode.WRITE))
    harness.clock.advance(timedelta(minutes=9))
    assert outcomes(await ask(harness, 3)) == [CacheOutcome.HIT]


async def test_the_body_goes_before_the_header() -> None:
    harness = a_harness()
    body = {**HELLO, "argosy": {"cache": {"mode": "off"}}}
    assert outcomes(await ask(harness, 1, body=body, cache=CacheControl(CacheMode.ON))) == [None]


@pytest.mark.parametrize(
    ("cache", "param"),
    [
        ({"mode": "yes"}, "argosy.cache.mode"),
        ({"mode": ["on"]}, "argosy.cache.mode"),
        ({"max_age": -1}, "argosy.cache.max_age"),
        ({"max_age": 1.5}, "argosy.cache.max_age"),
        ({"threshold": 0.5}, "argosy.cache.threshold"),
        ([], "argosy.cache"),
    ],
)
async def test_a_wrong_control_is_refused_by_name(cache: object, param: str) -> None:
    with pytest.raises(ArgosyError) as refused:
        await ask(a_harness(), 1, body={**HELLO, "argosy": {"cache": cache}})
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID, param)


async def test_a_purge_forgets_what_was_kept_before_it() -> None:
    harness = a_harness()
    await ask(harness, 1)
    harness.clock.advance(timedelta(seconds=1))
    await harness.answers.purge(Purged(harness.principal.tenant_id, None))
    harness.clock.advance(timedelta(seconds=1))
    assert outcomes(await ask(harness, 2), await ask(harness, 3)) == [CacheOutcome.MISS, CacheOutcome.HIT]


async def a_stale_harness(charge: Charge, error: ArgosyError) -> tuple[Harness, list[ChatEvent] | ArgosyError]:
    harness = a_harness(replace(ON, stale_if_error=timedelta(hours=1), charge=charge, discount_percent=30))
    await ask(harness, 1)
    harness.clock.advance(timedelta(minutes=11))
    harness.worker.script = (worker_finished(reported(0, 0), error=error),)
    try:
        return harness, await ask(harness, 2)
    except ArgosyError as raised:
        return harness, raised


@pytest.mark.parametrize(("charge", "off"), [(Charge.FREE, 100), (Charge.DISCOUNTED, 30), (Charge.FULL, 0)])
async def test_after_all_attempts_failed_an_old_answer_is_given_marked_and_settled_once(
    charge: Charge, off: int
) -> None:
    harness, events = await a_stale_harness(charge, FAILED)
    assert isinstance(events, list)
    assert (started_of(events).cache, started_of(events).cache_age_seconds) == (CacheOutcome.STALE, 660)
    assert payloads_of(events) == EVENTS
    assert finished_of(events).error is None
    assert finished_of(events).cost == cost(1_234, 567, discount(PRICE, off))
    usage = harness.outbox.written[-1]
    assert usage.cache == (CacheOutcome.STALE, "smollm2", 2)
    assert [(one.number, one.price.version, one.usage) for one in usage.attempts] == [
        (1, PRICE.version, reported(0, 0)),
        (2, discount(PRICE, off).version, USAGE),
    ]
    assert len({one.number for one in usage.attempts}) == len(usage.attempts)


async def test_a_refusal_of_the_request_itself_gets_no_old_answer() -> None:
    _, refused = await a_stale_harness(Charge.FREE, RemoteError(Kind.INVALID, "INVALID_REQUEST", "it is too long"))
    assert isinstance(refused, ArgosyError)
    assert refused.kind is Kind.INVALID


async def test_an_unreachable_worker_gets_an_old_answer_too() -> None:
    harness = a_harness(replace(ON, stale_if_error=timedelta(hours=1)))
    await ask(harness, 1)
    harness.clock.advance(timedelta(minutes=11))
    harness.worker.unavailable = Unavailable("no worker")
    events = await ask(harness, 2)
    assert outcomes(events) == [CacheOutcome.STALE]
    assert [one.number for one in harness.outbox.written[-1].attempts] == [1]


async def test_ten_thousand_equal_prompts_of_two_tenants_never_cross() -> None:
    harness = a_harness()
    cache = harness.completions.cache
    assert cache is not None
    crossed = 0
    for number in range(10_000):
        content = json.dumps({**HELLO, "seed": number}).encode()
        answers = []
        for tenant in ("ten_a", "ten_b"):
            harness.worker.script = (
                Started(0),
                Chunk([b'{"tenant":"%s","choices":[{"finish_reason":"stop"}]}' % tenant.encode()]),
                worker_finished(USAGE),
            )
            events = await harness.generate(content, principal=a_principal(tenant), request_id=f"{tenant}{number}")
            answers.append(started_of(events).cache)
            crossed += tenant.encode() not in b"".join(payloads_of(events))
        assert answers == [CacheOutcome.MISS, CacheOutcome.MISS]
    assert crossed == 0
    assert len(harness.answers.answers) == 20_000
