"""The values of the charts: typed and described; a mistake is refused with its path. The latter needs helm itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest

from scripts.helm_charts import CHART, HelmFailed, render

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")


def test_every_value_is_typed_and_described() -> None:
    def undescribed(part: Mapping[str, Any], path: str) -> Iterator[str]:
        for name, inner in part.get("properties", {}).items():
            if name in {"global", "argosy-lib"} and path:
                continue
            if not {"type", "description"} <= inner.keys():
                yield f"{path}.{name}"
            yield from undescribed(inner, f"{path}.{name}")

    schema = orjson.loads((CHART / "values.schema.json").read_text())
    assert list(undescribed(schema, "")) == []
    assert [name for part in schema["definitions"].values() for name in undescribed(part, "definition")] == []


BASE: dict[str, Any] = {"global": {"kafka": {"bootstrap": "kafka:9092"}}, "retrieval": {"objectsUrl": "s3://files"}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt value": ({"gateway": {"replica": 3}}, "'/gateway'.*'replica' not allowed"),
    "a wrong type": ({"metering": {"replicas": "three"}}, "at '/metering/replicas'"),
    "a setting of no service": ({"gateway": {"env": {"PORT": 1}}}, "'PORT' does not match"),
    "an unknown mode": ({"global": {"autoscaling": {"mode": "vpa"}}}, "at '/global/autoscaling/mode'"),
    "KEDA that is absent": ({"global": {"autoscaling": {"mode": "keda"}}}, "Install KEDA first"),
    "no brokers": ({"global": {"kafka": {"bootstrap": ""}}}, r"global\.kafka\.bootstrap"),
    "no object store": ({"retrieval": {"objectsUrl": ""}}, r"retrieval\.objectsUrl"),
    "a folder for replicas": ({"retrieval": {"objectsUrl": "file:///data"}}, "which replicas do not share"),
    "a schedule that is none": (
        {"retrieval": {"indexes": {"schedule": "nightly"}}},
        "at '/retrieval/indexes/schedule'",
    ),
    "a plan without its pool": ({"orchestrator": {"plans": {"gold": {"pool": "gold"}}}}, "no pool gold"),
    "a pool of none without KEDA": (
        {
            "global": {
                "autoscaling": {"mode": "hpa"},
                "pools": {"gold": {"replicas": 1, "minReplicas": 0, "maxReplicas": 2, "slots": 4}},
            }
        },
        "pool gold: minReplicas 0 needs",
    ),
}


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: merged(base[name], v) if isinstance(base.get(name), dict) else v for name, v in change.items()}
    return {**base, **both}


@needs_helm
@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_in_the_values_is_refused_with_its_path(mistake: str) -> None:
    change, message = BAD[mistake]

    with pytest.raises(HelmFailed, match=message):
        render({"values": merged(BASE, change)})


@needs_helm
def test_the_least_values_render() -> None:
    assert "kind: Deployment" in render({"values": BASE})


@needs_helm
def test_the_indexes_of_large_stores_may_be_left_to_the_operator() -> None:
    assert "kind: CronJob" in render({"values": BASE})
    assert "kind: CronJob" not in render({"values": merged(BASE, {"retrieval": {"indexes": {"enabled": False}}})})
