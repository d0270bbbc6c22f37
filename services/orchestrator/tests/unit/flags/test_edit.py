"""Flags that are refused when they are written, each with a sentence and the place."""

from dataclasses import replace

import pytest
from chassis.errors import InvalidRequest
from orchestrator.flags.edit import check_flag
from orchestrator.flags.model import Flag, FlagType, Rule

from services.orchestrator.tests.fake_flags import KNOWN, switch

GREETING = Flag(key="app.greeting", type=FlagType.STRING, variants={"a": "Hi"}, default_variant="a")


def off_for(**targets: object) -> Rule:
    return Rule(variant="off", **targets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "flag",
    [
        switch("feature.vector_stores"),
        switch("model.smollm2", off_for(tenants=frozenset({"ten_1"}), basis_points=1)),
        switch("upstream.local", off_for(upstreams=frozenset({"local"}))),
        switch("tool.search_web", off_for(models=frozenset({"smollm2"}))),
        GREETING,
        replace(GREETING, type=FlagType.FLOAT, variants={"a": 1, "b": 1.5}),
    ],
    ids=lambda flag: str(flag.key),
)
def test_a_good_flag_is_accepted(flag: Flag) -> None:
    assert check_flag(flag, KNOWN) is flag


@pytest.mark.parametrize(
    ("flag", "param", "words"),
    [
        (switch("chat"), "key", "is no flag"),
        (switch("featur.chat"), "key", "is no flag"),
        (switch("feature."), "key", "is no flag"),
        (switch("feature.chats"), "key", "no feature 'chats'; there are: batches"),
        (switch("model.gpt-17"), "key", "no model 'gpt-17'; there are: all-minilm-l6-v2, smollm2"),
        (switch("upstream.nowhere"), "key", "no upstream 'nowhere'; there are: dear, local"),
        (switch("guard.pii"), "key", "no guard 'pii'; there are: none"),
        (switch("tool.a b"), "key", "cannot be a name"),
        (replace(GREETING, key="feature.chat"), "variants", "is a switch"),
        (switch("feature.chat", default="maybe"), "default_variant", "none of the variants off, on"),
        (replace(GREETING, variants={}), "variants", "1 to 20 variants"),
        (replace(GREETING, variants={"a": 1}), "variants.a", "not of the type string"),
        (replace(GREETING, type=FlagType.INTEGER, variants={"a": True}), "variants.a", "not of the type integer"),
        (replace(GREETING, killed=True), "key", "cannot be killed"),
        (switch("feature.chat", off_for()), "rules[0]", "default_variant"),
        (switch("feature.chat", Rule(variant="maybe", basis_points=1)), "rules[0].variant", "none of the variants"),
        (switch("feature.chat", off_for(tenants=frozenset({"acme"}))), "rules[0].tenants", "'acme' is no tenant"),
        (switch("feature.chat", off_for(plans=frozenset({" "}))), "rules[0].plans", "not empty"),
        (switch("feature.chat", off_for(models=frozenset({"gpt-17"}))), "rules[0].models", "no model 'gpt-17'"),
        (switch("upstream.local", off_for(upstreams=frozenset({"x"}))), "rules[0].upstreams", "no upstream 'x'"),
        (switch("model.smollm2", off_for(upstreams=frozenset({"local"}))), "rules[0].upstreams", "never matches"),
        (switch("feature.chat", off_for(basis_points=10_001)), "rules[0].percentage", "from 0 to 100"),
    ],
    ids=lambda value: str(value.key) if isinstance(value, Flag) else None,
)
def test_a_bad_flag_is_refused_with_its_place(flag: Flag, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words.replace("[", r"\[")) as refused:
        check_flag(flag, KNOWN)

    assert refused.value.param == param
