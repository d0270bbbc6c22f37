"""What a flag gives, and why."""

import pytest
from chassis.errors import Unavailable
from orchestrator.flags.model import EvaluationReason, FlagContext, FlagKind, Rule, bucket
from orchestrator.flags.snapshot import FlagCache

from services.orchestrator.tests.fake_flags import EDIT, FakeFlagStore, snapshot_of, switch

TENANTS = [f"ten_{number}" for number in range(10_000)]
BUCKETS = [8461, 1683, 6659]


def of(tenant_id: str = "ten_1", **context: str) -> FlagContext:
    return FlagContext(tenant_id, **context)


def test_without_a_rule_that_matches_the_default_variant_holds() -> None:
    flag = switch("feature.chat", Rule(variant="off", tenants=frozenset({"ten_2"})))

    assert flag.evaluate(of("ten_1")) == ("on", EvaluationReason.DEFAULT)
    assert flag.evaluate(of("ten_2")) == ("off", EvaluationReason.TARGETING_MATCH)


def test_the_first_rule_that_matches_decides() -> None:
    exception = Rule(variant="on", tenants=frozenset({"ten_1"}))
    flag = switch("feature.chat", exception, Rule(variant="off", plans=frozenset({"free"})))

    assert flag.evaluate(of("ten_1", plan="free")).variant == "on"
    assert flag.evaluate(of("ten_2", plan="free")).variant == "off"


def test_a_rule_matches_only_what_matches_all_its_targets() -> None:
    rule = Rule(
        variant="off",
        tenants=frozenset({"ten_1"}),
        plans=frozenset({"free"}),
        models=frozenset({"smollm2"}),
        upstreams=frozenset({"local"}),
    )
    flag = switch("upstream.local", rule)
    everything = {"plan": "free", "model": "smollm2", "upstream": "local"}

    assert flag.evaluate(of(**everything)).variant == "off"
    for missing in everything:
        assert flag.evaluate(of(**(everything | {missing: ""}))).variant == "on"
    assert flag.evaluate(of("ten_2", **everything)).variant == "on"


def test_the_bucket_is_what_the_documentation_says() -> None:
    # Computed once by hand: int(sha256("feature.chat/ten_1")[:8]) * 10000 >> 64. A change would move tenants.
    assert [bucket("feature.chat", tenant) for tenant in ("ten_1", "ten_2", "ten_3")] == BUCKETS
    assert bucket("feature.jobs", "ten_1") != bucket("feature.chat", "ten_1")


@pytest.mark.parametrize("basis_points", [0, 1, 100, 2_500, 9_999, 10_000])
def test_a_percentage_includes_its_share_of_tenants(basis_points: int) -> None:
    flag = switch("feature.chat", Rule(variant="off", basis_points=basis_points))

    off = sum(flag.evaluate(of(tenant)).variant == "off" for tenant in TENANTS)

    # Four standard deviations of a binomial distribution, and exact at both ends.
    share = basis_points / 10_000
    assert abs(off - share * len(TENANTS)) <= 4 * (len(TENANTS) * share * (1 - share)) ** 0.5


def test_who_is_within_a_percentage_is_within_every_higher_one() -> None:
    ten, fifty = (switch("feature.chat", Rule(variant="off", basis_points=points)) for points in (1_000, 5_000))

    early = {tenant for tenant in TENANTS if ten.evaluate(of(tenant)).variant == "off"}
    late = {tenant for tenant in TENANTS if fifty.evaluate(of(tenant)).variant == "off"}

    assert early < late


def test_a_percentage_is_a_split() -> None:
    flag = switch("feature.chat", Rule(variant="off", basis_points=10_000))

    assert flag.evaluate(of()) == ("off", EvaluationReason.SPLIT)


def test_a_flag_that_is_not_enabled_is_left_to_its_reader() -> None:
    flag = switch("feature.chat", default="off", enabled=False)
    evaluated: dict[str, str] = {}

    assert flag.evaluate(of()) == (None, EvaluationReason.DISABLED)
    assert snapshot_of(flag).is_on(FlagKind.FEATURE, "chat", of(), evaluated)
    assert evaluated == {}


@pytest.mark.parametrize("enabled", [True, False])
def test_a_killed_flag_is_off_whatever_else_it_says(*, enabled: bool) -> None:
    flag = switch("feature.chat", Rule(variant="on", basis_points=10_000), killed=True, enabled=enabled)

    assert flag.evaluate(of()) == ("off", EvaluationReason.KILLED)


def test_a_switch_that_nobody_defined_is_on_and_not_recorded() -> None:
    evaluated: dict[str, str] = {}

    assert snapshot_of(switch("model.a", default="off")).is_on(FlagKind.MODEL, "b", of(), evaluated)
    assert snapshot_of().is_on(FlagKind.FEATURE, "chat", of(), evaluated)
    assert evaluated == {}


def test_what_is_evaluated_is_recorded_with_its_variant() -> None:
    flags, evaluated = snapshot_of(switch("model.a/b.c", default="off"), switch("feature.chat")), dict[str, str]()

    assert not flags.is_on(FlagKind.MODEL, "a/b.c", of(), evaluated)
    assert flags.is_on(FlagKind.FEATURE, "chat", of(), evaluated)
    assert evaluated == {"model.a/b.c": "off", "feature.chat": "on"}


async def test_before_the_first_read_nothing_is_evaluated_because_a_kill_might_be_unknown() -> None:
    cache = FlagCache(FakeFlagStore())
    with pytest.raises(Unavailable):
        cache.snapshot()

    await cache.refresh()

    assert not cache.snapshot().flags


async def test_the_last_flags_hold_while_the_store_is_down() -> None:
    store = FakeFlagStore()
    cache = FlagCache(store)
    await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat", default="off"))
    await cache.refresh()
    store.failure = Unavailable("no database")

    with pytest.raises(Unavailable):
        await cache.refresh()

    assert not cache.snapshot().is_on(FlagKind.FEATURE, "chat", of(), {})


async def test_a_slow_read_does_not_bring_an_older_version_back() -> None:
    store = FakeFlagStore()
    cache = FlagCache(store, snapshot_of(switch("feature.chat", default="off"), version=7))

    assert not await cache.refresh()

    assert cache.snapshot().version == 7
