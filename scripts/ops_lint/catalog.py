"""What can be queried: the metrics of the services, with their labels, and what recording rules make of them."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import prometheus_client
from chassis.telemetry import declared_metrics
from prometheus_client.utils import floatToGoString

from scripts.ops_lint.routes import route_templates
from scripts.reference import import_everything

ROOT: Final = Path(__file__).resolve().parents[2]
TARGET_LABELS: Final = frozenset({"job", "instance"})
"""Every scrape adds them. Others (namespace, pod) depend on the installation, so no rule needs them."""


@dataclass(frozen=True, slots=True)
class Series:
    """A name that can be selected."""

    labels: frozenset[str]
    kind: str
    """counter, gauge, or empty where it is not known."""
    metric: str
    """The declared metric, without `_bucket`, `_sum` and `_count`; empty for a recording rule."""
    buckets: tuple[str, ...] = ()
    sources: frozenset[str] = frozenset()
    """Of a recording rule: the metrics behind it."""

    @property
    def metrics(self) -> frozenset[str]:
        return self.sources or frozenset({self.metric})


@dataclass(slots=True)
class Catalog:
    series: dict[str, Series] = field(default_factory=dict)
    code: str = ""
    """The sources of services and libraries, in which the values of labels are looked up."""

    def has_value(self, label: str, value: str) -> bool:
        """Whether the code can set a label to this value, as far as its text shows."""
        if label in {"status", "le", *TARGET_LABELS}:
            return True
        if label == "route":
            return value in route_templates()
        return f'"{value}"' in self.code or re.search(rf"\b{re.escape(value.upper())}\b", self.code) is not None


@cache
def declared_catalog() -> Catalog:
    """Import all services, and list what they declare and what the client library adds."""
    import_everything()
    catalog = Catalog(code=_code())
    for metric in declared_metrics():
        labels = TARGET_LABELS | set(metric.labels)
        if metric.kind != "histogram":
            catalog.series[metric.name] = Series(labels, metric.kind, metric.name)
            continue
        edges = tuple(floatToGoString(edge) for edge in metric.buckets)  # type: ignore[no-untyped-call]
        catalog.series[f"{metric.name}_bucket"] = Series(labels | {"le"}, "counter", metric.name, edges)
        for suffix in ("_sum", "_count"):
            catalog.series[metric.name + suffix] = Series(labels, "counter", metric.name)
    for family in prometheus_client.REGISTRY.collect():
        if family.name.startswith(("process_", "python_")):
            for sample in family.samples:
                kind = "counter" if family.type == "counter" else "gauge"
                catalog.series[sample.name] = Series(TARGET_LABELS | set(sample.labels), kind, sample.name)
    # Prometheus makes this one itself.
    catalog.series["up"] = Series(TARGET_LABELS, "gauge", "up")
    return catalog


def _code() -> str:
    files = sorted([*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/*/src/**/*.py")])
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
