"""The objects of helm/scenarios/<case>/rendered, for the tests of the charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from scripts.helm_charts import HELM, scenarios

CASES = [path.name for path in scenarios()]
KINDS_OF_PODS = ("Deployment", "Job", "CronJob", "Pod")


@cache
def everything(case: str) -> list[dict[str, Any]]:
    paths = sorted((HELM / "scenarios" / case / "rendered").glob("*.yaml"))
    return [thing for path in paths for thing in yaml.load_all(path.read_text(), yaml.CSafeLoader) if thing]


def objects(case: str, *kinds: str) -> list[dict[str, Any]]:
    found = everything(case)
    return [thing for thing in found if not kinds or thing["kind"] in kinds]


def pod(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The pod that an object is or makes, with its metadata."""
    if thing["kind"] == "Pod":
        return dict(thing)
    spec: dict[str, Any] = thing["spec"]["jobTemplate"]["spec"] if thing["kind"] == "CronJob" else thing["spec"]
    return dict(spec["template"])


def pod_spec(thing: Mapping[str, Any]) -> dict[str, Any]:
    return dict(pod(thing)["spec"])


def pods(case: str) -> list[tuple[str, dict[str, Any]]]:
    return [(thing["metadata"]["name"], pod_spec(thing)) for thing in objects(case, *KINDS_OF_PODS)]


def variables(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in pods(case):
        yield from ((name, entry) for container in spec["containers"] for entry in container.get("env", ()))


def deployment(case: str, name: str) -> dict[str, Any]:
    return next(thing for thing in objects(case, "Deployment") if thing["metadata"]["name"] == name)


def setting(case: str, workload: str, variable: str) -> str:
    spec = pod_spec(deployment(case, workload))
    return next(str(e["value"]) for e in spec["containers"][0]["env"] if e["name"] == variable)
