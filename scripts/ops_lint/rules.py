"""Rule files: recording rules become series of the catalog, alerts are checked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.ops_lint.catalog import Catalog, Series
from scripts.ops_lint.promql import Query, analyze
from scripts.ops_lint.tokens import PromqlError

SEVERITIES: Final = ("critical", "warning", "info")
LEVELS: Final = ("infrastructure", "llm", "quality", "business")
ANNOTATIONS: Final = frozenset({"summary", "description", "runbook", "dashboard"})
RECORD_NAME: Final = re.compile(r"[a-z_]+:[a-z_]+:[a-z0-9_]+")
LABEL_TEMPLATE: Final = re.compile(r"\$labels\.(\w+)")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a rule file, as it stands there."""

    path: Path
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.fields.get("alert") or self.fields["record"])


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert whose expression can be evaluated."""

    name: str
    path: Path
    dashboard: str
    query: Query


def read_rules(folder: Path) -> list[Rule]:
    """Read all rules of a folder, recording rules first: alerts of any file may read them."""
    rules = [
        Rule(path, fields)
        for path in sorted(folder.glob("*.yaml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for fields in group["rules"]
    ]
    return sorted(rules, key=lambda rule: "alert" in rule.fields)


def check_rules(rules: list[Rule], catalog: Catalog) -> tuple[list[Alert], list[str]]:
    """Add what is recorded to the catalog; return the alerts that can be evaluated, and what is wrong."""
    alerts: list[Alert] = []
    problems: list[str] = []
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            problems.append(f"{rule.path.name}: {rule.name} is there twice")
        seen.add(rule.name)
        try:
            query = analyze(rule.fields["expr"], catalog)
        except PromqlError as error:
            problems.append(f"{rule.path.name}: {rule.name}: {error}")
            continue
        if "record" in rule.fields:
            problems += [f"{rule.path.name}: {problem}" for problem in _check_record(rule)]
            # Their labels are not those of one target, unless the expression keeps them.
            catalog.series[rule.name] = Series(query.labels, "", "", sources=frozenset(query.metrics))
        else:
            problems += [f"{rule.path.name}: {rule.name}: {problem}" for problem in _check_alert(rule, query)]
            dashboard = rule.fields.get("annotations", {}).get("dashboard", "")
            alerts.append(Alert(rule.name, rule.path, dashboard, query))
    return alerts, problems


def _check_record(rule: Rule) -> Iterator[str]:
    if RECORD_NAME.fullmatch(rule.name) is None:
        yield f"{rule.name} is not named level:metric:operation"


def _check_alert(rule: Rule, query: Query) -> Iterator[str]:
    labels, annotations = rule.fields.get("labels", {}), rule.fields.get("annotations", {})
    if labels.get("severity") not in SEVERITIES:
        yield f"its severity is none of {', '.join(SEVERITIES)}"
    if labels.get("level") not in LEVELS:
        yield f"its level is none of {', '.join(LEVELS)}"
    if set(annotations) != ANNOTATIONS:
        yield f"its annotations are not {', '.join(sorted(ANNOTATIONS))}"
    if annotations.get("runbook") != f"ops/runbooks/{rule.name}.md":
        yield f"its runbook is not ops/runbooks/{rule.name}.md"
    for text in annotations.values():
        for label in LABEL_TEMPLATE.findall(text):
            if label not in query.labels:
                yield f"it writes the label {label}, which its expression has not"


def untested_alerts(alerts: list[Alert], folder: Path) -> list[str]:
    """Name the alerts without a test that they fire, and those without a test that they do not."""
    fires: set[str] = set()
    silent: set[str] = set()
    for path in sorted(folder.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for test in group.get("promql_expr_test", []):
                named = re.search(r'alertname="(\w+)"', test["expr"])
                if named is not None:
                    (fires if test.get("exp_samples") else silent).add(named[1])
    return [
        f"{alert.path.name}: {alert.name} has no test that it {what}"
        for alert in alerts
        for what, tested in (("fires", fires), ("does not fire", silent))
        if alert.name not in tested
    ]
