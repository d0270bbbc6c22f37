"""Our provider, used as the SDK of OpenFeature uses it."""

from typing import Any

import pytest
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from orchestrator.flags.model import Flag, FlagContext, FlagType, Rule
from orchestrator.flags.provider import evaluate, openfeature_client
from orchestrator.flags.snapshot import FlagCache

from services.orchestrator.tests.fake_flags import FakeFlagStore, snapshot_of, switch

TENANT = EvaluationContext("ten_1", {"plan": "free"})
VALUES: dict[FlagType, Any] = {
    FlagType.BOOLEAN: False,
    FlagType.STRING: "Hi",
    FlagType.INTEGER: 3,
    FlagType.FLOAT: 1.5,
    FlagType.OBJECT: {"words": ["Hi"]},
}


def client_of(*flags: Flag) -> OpenFeatureClient:
    return openfeature_client(FlagCache(FakeFlagStore(), snapshot_of(*flags)))


def test_a_rule_decides_by_the_attributes_of_the_context() -> None:
    client = client_of(switch("feature.chat", Rule(variant="off", plans=frozenset({"free"}))))

    details = client.get_boolean_details("feature.chat", True, TENANT)

    assert (details.value, details.variant, details.reason) == (False, "off", "TARGETING_MATCH")
    assert client.get_boolean_value("feature.chat", False, EvaluationContext("ten_1"))


def test_a_flag_that_is_not_enabled_gives_the_callers_default() -> None:
    client = client_of(switch("feature.chat", enabled=False))

    details = client.get_boolean_details("feature.chat", False, TENANT)

    assert (details.value, details.variant, details.reason) == (False, None, "DISABLED")


@pytest.mark.parametrize("flag_type", FlagType)
def test_a_flag_of_each_type_gives_its_value(flag_type: FlagType) -> None:
    value = VALUES[flag_type]
    flag = Flag(key="app.a", type=flag_type, variants={"only": value}, default_variant="only")

    details = evaluate(client_of(flag), "app.a", flag_type, FlagContext("ten_1"))

    assert (details.value, details.variant) == (value, "only")


@pytest.mark.parametrize(
    ("key", "context", "code"),
    [
        ("feature.jobs", TENANT, ErrorCode.FLAG_NOT_FOUND),
        ("app.text", TENANT, ErrorCode.TYPE_MISMATCH),
        ("feature.chat", EvaluationContext(), ErrorCode.TARGETING_KEY_MISSING),
    ],
)
def test_what_cannot_be_evaluated_gives_the_default_and_a_code(
    key: str, context: EvaluationContext, code: ErrorCode
) -> None:
    text = Flag(key="app.text", type=FlagType.STRING, variants={"a": "Hi"}, default_variant="a")

    details = client_of(text, switch("feature.chat", default="off")).get_boolean_details(key, True, context)

    assert (details.value, details.error_code) == (True, code)


def test_before_the_flags_are_read_the_provider_is_not_ready() -> None:
    details = openfeature_client(FlagCache(FakeFlagStore())).get_boolean_details("feature.chat", True, TENANT)

    assert (details.value, details.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)
