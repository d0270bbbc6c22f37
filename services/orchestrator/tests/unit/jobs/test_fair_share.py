"""The choice of jobs: within the room, nothing idle, fair by tokens, and without starvation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orchestrator.jobs.fair_share import (
    KEPT_FREE,
    LANE_WEIGHTS,
    PLACES_PER_SLOT,
    LaneQueues,
    TenantQueue,
    choose,
)

from services.orchestrator.tests.pool_of_slots import Pool

COSTS = st.lists(st.one_of(st.integers(0, 2_000), st.integers(0, 200_000)), max_size=12)


@st.composite
def tenant_queues(draw: st.DrawFn, tenant_id: str) -> TenantQueue:
    costs = draw(COSTS)
    more = bool(costs) and draw(st.booleans())
    later = draw(st.integers(0, 3))
    return TenantQueue(
        tenant_id,
        costs,
        more=more,
        queued=len(costs) + later + more,
        deficit=draw(st.integers(0, 300_000)),
        paused=draw(st.booleans()),
    )


@st.composite
def pools(draw: st.DrawFn) -> list[LaneQueues]:
    lanes = draw(st.lists(st.sampled_from(sorted(LANE_WEIGHTS)), unique=True))
    return [
        LaneQueues(
            lane,
            [draw(tenant_queues(f"ten_{number}")) for number in range(draw(st.integers(0, 6)))],
            in_flight=draw(st.integers(0, 40)),
            unserved=timedelta(seconds=draw(st.integers(0, 100_000))),
        )
        for lane in lanes
    ]


def in_flight_after(lanes: Sequence[LaneQueues], taken: Mapping[str, int]) -> dict[str, int]:
    flying = {queues.lane: queues.in_flight + taken.get(queues.lane, 0) for queues in lanes}
    return {lane: flying.get(lane, 0) for lane in LANE_WEIGHTS}


def max_places(lane: str, slots: int) -> int:
    """For the lane and those below it."""
    places = slots * PLACES_PER_SLOT
    return max(1, places - max(1, places // KEPT_FREE[lane])) if KEPT_FREE[lane] else places


@given(pools(), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 50)))
def test_never_more_jobs_than_places_nor_than_a_tenant_has(
    lanes: list[LaneQueues], slots: int, limit: int | None
) -> None:
    choice = choose(slots, lanes, limit)

    in_flight = sum(queues.in_flight for queues in lanes)
    assert choice.count <= max(0, slots * PLACES_PER_SLOT - in_flight)
    assert limit is None or choice.count <= limit
    queues = {(lane.lane, queue.tenant_id): queue for lane in lanes for queue in lane.tenants}
    for share in choice.shares:
        queue = queues[share.lane, share.tenant_id]
        assert 0 < share.count <= len(queue.costs)
        assert share.tokens == sum(max(1, cost) for cost in queue.costs[: share.count])


@given(pools(), st.integers(0, 30))
def test_a_paused_tenant_gets_nothing_and_keeps_its_credit(lanes: list[LaneQueues], slots: int) -> None:
    choice = choose(slots, lanes)

    paused = {(lane.lane, queue.tenant_id): queue for lane in lanes for queue in lane.tenants if queue.paused}
    assert not {(share.lane, share.tenant_id) for share in choice.shares} & paused.keys()
    assert all(choice.deficits[key] == 0 and not paused[key].queued for key in choice.deficits.keys() & paused.keys())


@given(pools(), st.integers(0, 30))
def test_a_place_stays_free_only_when_no_lane_that_may_take_it_has_a_job(lanes: list[LaneQueues], slots: int) -> None:
    choice = choose(slots, lanes)
    taken: Counter[str] = Counter()
    for share in choice.shares:
        taken[share.lane] += share.count
    flying = in_flight_after(lanes, taken)
    if choice.again or sum(flying.values()) >= slots * PLACES_PER_SLOT:
        return

    order = list(LANE_WEIGHTS)
    for queues in lanes:
        due = sum(len(queue.costs) for queue in queues.tenants if not queue.paused)
        at = order.index(queues.lane)
        full = any(
            sum(flying[lane] for lane in order[number:]) >= max_places(order[number], slots)
            for number in range(at + 1)
            if order[number] in {one.lane for one in lanes}
        )
        assert full or taken[queues.lane] == due


@given(pools(), st.integers(0, 30))
def test_urgent_lanes_find_places_that_less_urgent_ones_left_free(lanes: list[LaneQueues], slots: int) -> None:
    choice = choose(slots, lanes)

    for share in choice.shares:
        order = list(LANE_WEIGHTS)
        below = order[order.index(share.lane) :]
        taken: Counter[str] = Counter()
        for one in choice.shares:
            taken[one.lane] += one.count
        flying = in_flight_after(lanes, taken)
        assert sum(flying[lane] for lane in below) <= max_places(share.lane, slots)


@given(pools(), st.integers(1, 30))
def test_an_emptied_queue_loses_its_credit_and_no_credit_exceeds_two_jobs(lanes: list[LaneQueues], slots: int) -> None:
    choice = choose(slots, lanes)

    dearest: dict[str, int] = defaultdict(int)
    queues = {(lane.lane, queue.tenant_id): queue for lane in lanes for queue in lane.tenants}
    for (lane, _), queue in queues.items():
        dearest[lane] = max(dearest[lane], *(max(1, cost) for cost in queue.costs), 0)
    taken = {(share.lane, share.tenant_id): share.count for share in choice.shares}
    for key, deficit in choice.deficits.items():
        queue = queues[key]
        if not queue.more and taken.get(key, 0) == queue.queued:
            assert deficit == 0
        assert 0 <= deficit <= max(queue.deficit, 2 * dearest[key[0]])


def test_again_is_said_when_a_tenant_that_has_more_jobs_would_be_passed_over() -> None:
    few_known = TenantQueue("ten_cheap", [10], more=True, queued=100)
    dear = TenantQueue("ten_dear", [1_000] * 8, queued=8)

    choice = choose(8, [LaneQueues("standard", [few_known, dear])])

    assert choice.again
    assert next((share.tenant_id, share.count) for share in choice.shares) == ("ten_cheap", 1)
    assert choice.count < 9


def test_a_pool_without_workers_gets_nothing() -> None:
    assert not choose(0, [LaneQueues("interactive", [TenantQueue("ten_1", [5], queued=1)])]).count


def test_backlogged_lanes_hold_places_in_relation_to_their_weights() -> None:
    lanes = [LaneQueues(lane, [TenantQueue("ten_1", [5] * 500, queued=500)]) for lane in LANE_WEIGHTS]

    choice = choose(60, lanes)

    assert {share.lane: share.count for share in choice.shares} == {"interactive": 80, "standard": 30, "batch": 10}


def jain_index(shares: Sequence[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


SIZES = [
    [100],
    [2_000],
    [100, 100, 100, 8_000],
    [50] * 40 + [30_000],
    [1_000, 500],
    [40],
    [700],
    [100, 4_000],
    [900],
    [60],
]


@pytest.mark.parametrize("slots", [1, 4, 64])
@pytest.mark.parametrize("heads", [1, 16])
def test_backlogged_tenants_get_equal_tokens_whatever_the_sizes_of_their_jobs(slots: int, heads: int) -> None:
    pool = Pool(slots, heads)
    goal = 600_000
    for number, sizes in enumerate(SIZES):
        pool.submit("batch", f"ten_{number}", sizes * (goal // sum(sizes)))

    while sum(pool.served.values()) < goal:
        pool.step()

    assert all(jobs for jobs in pool.waiting.values())  # all were backlogged all the time
    assert jain_index([pool.served[f"ten_{number}"] for number in range(len(SIZES))]) >= 0.95


def test_a_huge_job_neither_blocks_the_others_nor_waits_for_ever() -> None:
    pool = Pool(slots=1)
    pool.submit("standard", "ten_huge", [100_000] * 3)
    pool.submit("standard", "ten_small", [100] * 20_000)

    while pool.served["ten_huge"] < 300_000:
        pool.step()
        if not pool.served["ten_huge"]:
            assert pool.served["ten_small"] <= 110_000

    assert pool.served["ten_small"] >= 200_000


@pytest.mark.parametrize("slots", [1, 2, 5, 16])
def test_no_lane_starves_under_endless_work_of_the_others(slots: int) -> None:
    pool = Pool(slots)
    for lane in LANE_WEIGHTS:
        pool.submit(lane, "ten_1", [1_000] * 5_000)

    while pool.now < 300:
        pool.step()

    for lane in LANE_WEIGHTS:
        times = [0.0, *pool.starts[lane], pool.now]
        assert max(after - before for before, after in pairwise(times)) <= 100
    started = {lane: len(pool.starts[lane]) for lane in LANE_WEIGHTS}
    assert started["interactive"] >= started["standard"] >= started["batch"] > 0
    assert started["interactive"] >= 0.6 * sum(started.values())


@pytest.mark.parametrize("backlog_seconds", [0, 36_000])
def test_interactive_jobs_hardly_wait_while_batch_jobs_have_waited_for_hours(backlog_seconds: int) -> None:
    pool = Pool(slots=16)
    pool.submit("batch", "ten_flood", [1_000] * 20_000)
    pool.now = float(backlog_seconds)
    next_at = pool.now
    for _ in range(2_000):
        pool.step()
        if pool.now >= next_at:
            pool.submit("interactive", "ten_ui", [300])
            next_at += 0.2

    waits = sorted(pool.waits["interactive"])
    assert len(waits) > 100
    # A slot ends a job every 1/16 s, and the next free one takes the interactive job.
    assert waits[int(len(waits) * 0.95)] <= 0.25
