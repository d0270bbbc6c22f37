"""Grafana's dashboards as JSON: every query, legend and variable, and the few fields that a reader needs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from scripts.ops_lint.catalog import Catalog
from scripts.ops_lint.promql import analyze
from scripts.ops_lint.tokens import PromqlError

# Grafana replaces them with durations.
DURATIONS: Final = re.compile(r"\$__(?:rate_interval|interval|range)|\$\{__(?:rate_interval|interval|range)\}")
LEGEND_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LABEL_VALUES: Final = re.compile(r"label_values\((\w+),\s*(\w+)\)")
VARIABLE: Final = re.compile(r"\$\{?([a-z]\w*)")
COLUMNS: Final = 24
DATASOURCES: Final = {"prometheus": "${prometheus}", "grafana-postgresql-datasource": "${postgres}"}


@dataclass(slots=True)
class Dashboard:
    """A dashboard, with the metrics that its panels show."""

    path: Path
    uid: str
    metrics: set[str] = field(default_factory=set)
    sql: list[str] = field(default_factory=list)


def check_dashboard(path: Path, catalog: Catalog) -> tuple[Dashboard, list[str]]:
    """Return the dashboard and what is wrong with it."""
    content = orjson.loads(path.read_bytes())
    dashboard = Dashboard(path, content.get("uid", ""))
    problems = [*_check_head(content, path), *_check_places(content["panels"])]
    variables = {variable["name"] for variable in content["templating"]["list"]}
    for variable in content["templating"]["list"]:
        if variable.get("datasource", {}).get("uid") == DATASOURCES["grafana-postgresql-datasource"]:
            dashboard.sql.append(variable["query"])
        else:
            problems += _check_variable(variable, catalog)
    for panel in content["panels"]:
        if panel["type"] not in {"row", "text"}:
            problems += [f"{panel['title']}: {problem}" for problem in _check_panel(panel, dashboard, catalog)]
    unknown = set(VARIABLE.findall(DURATIONS.sub("", path.read_text(encoding="utf-8")))) - variables
    problems += [f"there is no variable {name}" for name in sorted(unknown)]
    return dashboard, [f"{path.name}: {problem}" for problem in problems]


def _check_head(content: dict[str, Any], path: Path) -> Iterator[str]:
    if content.get("uid") != f"argosy-{path.stem}":
        yield f"its uid is not argosy-{path.stem}"
    if "argosy" not in content.get("tags", []):
        yield "its tags lack argosy"
    if content.get("id") is not None:
        yield "its id is of one Grafana: it must be null"
    titles = [panel["title"] for panel in content["panels"]]
    yield from (f"two panels are called {title}" for title in sorted({t for t in titles if titles.count(t) > 1}))


def _check_places(panels: list[dict[str, Any]]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > COLUMNS:
            yield f"{panel['title']} is wider than the screen"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if taken.setdefault((x, y), panel["title"]) != panel["title"]:
                    yield f"{panel['title']} covers {taken[x, y]}"
                    return


def _check_variable(variable: dict[str, Any], catalog: Catalog) -> Iterator[str]:
    if variable["type"] != "query":
        return
    if variable["datasource"]["uid"] != DATASOURCES["prometheus"]:
        yield f"{variable['name']}: its data source is no variable"
    found = LABEL_VALUES.fullmatch(variable["query"])
    if found is None:
        yield f"the query of {variable['name']} is no label_values(metric, label)"
    elif found[1] not in catalog.series or found[2] not in catalog.series[found[1]].labels:
        yield f"the variable {variable['name']}: {found[1]} has no label {found[2]}"


def _check_panel(panel: dict[str, Any], dashboard: Dashboard, catalog: Catalog) -> Iterator[str]:
    if not panel.get("description"):
        yield "it has no description"
    if panel["type"] != "table" and not panel["fieldConfig"]["defaults"].get("unit"):
        yield "it has no unit"
    source = panel["datasource"]
    if source.get("uid") != DATASOURCES.get(source.get("type", "")):
        yield "its data source is no variable"
    for target in panel["targets"]:
        if "rawSql" in target:
            dashboard.sql.append(target["rawSql"])
            continue
        try:
            query = analyze(DURATIONS.sub("5m", target["expr"]), catalog)
        except PromqlError as error:
            yield f"{error}, in {target['expr']}"
            continue
        dashboard.metrics |= query.metrics
        for label in LEGEND_LABEL.findall(target.get("legendFormat", "")):
            if label not in query.labels:
                yield f"the legend writes {label}, which the query has not"
