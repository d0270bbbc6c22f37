"""Runbooks: their sections, and whether the metrics, log events, commands, calls and settings that they name exist."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from starlette.routing import compile_path

from scripts.ops_lint.catalog import ROOT, Catalog
from scripts.ops_lint.promql import analyze
from scripts.ops_lint.routes import route_templates
from scripts.ops_lint.rules import Alert
from scripts.ops_lint.tokens import PromqlError

SECTIONS: Final = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
SERVICES: Final = ("gateway", "orchestrator", "inference_worker", "metering", "retrieval")
METRIC: Final = re.compile(rf"`((?:argosy|{'|'.join(SERVICES)}|process)_[a-z0-9_]+)`")
PROMQL: Final = re.compile(r"```promql\n(.*?)```", re.DOTALL)
EVENT: Final = re.compile(r'event == "(\w+)"')
CALL: Final = re.compile(r"\$ARGOSY_BASE_URL(/[^\s\"'?]+)")
COMMAND: Final = re.compile(rf"-m (?:argosy_dev run )?({'|'.join(SERVICES)}) ([a-z-]+)")
SETTING: Final = re.compile(rf"`((?:{'|'.join(name.upper() for name in SERVICES)})_[A-Z0-9_]+)`")
COMMON_COMMANDS: Final = frozenset({"serve", "config", "migrate"})


def check_runbooks(folder: Path, alerts: list[Alert], catalog: Catalog) -> list[str]:
    """Return what is wrong with the runbooks of these alerts; a runbook of no alert is wrong, too."""
    problems = [
        f"{path.name} is the runbook of no alert"
        for path in sorted(folder.glob("*.md"))
        if path.stem not in {alert.name for alert in alerts}
    ]
    for alert in alerts:
        path = folder / f"{alert.name}.md"
        if not path.exists():
            problems.append(f"{alert.name} has no runbook {path.name}")
            continue
        text = path.read_text(encoding="utf-8")
        problems += [f"{path.name}: {problem}" for problem in _check_text(text, alert, catalog)]
    return problems


def _check_text(text: str, alert: Alert, catalog: Catalog) -> Iterator[str]:
    if not text.startswith(f"# {alert.name}\n"):
        yield f"its title is not {alert.name}"
    found = re.findall(r"^## (.*)\n+(?=[^#\s])", text, re.MULTILINE)
    if found != SECTIONS:
        yield f"its sections are not {', '.join(SECTIONS)}, each with a text"
    metrics = {series.metric for series in catalog.series.values()}
    named = set(METRIC.findall(text)) | ({"up"} if "`up`" in text else set())
    yield from (f"no service declares {name}" for name in sorted(named - metrics - set(catalog.series)))
    yield from (f"it does not name {name}, which the alert reads" for name in sorted(alert.query.metrics - named))
    for expression in _queries(text):
        try:
            analyze(expression, catalog)
        except PromqlError as error:
            yield f"{error}, in {expression.strip()}"
    yield from (f"no code logs {event}" for event in EVENT.findall(text) if f'"{event}"' not in catalog.code)
    yield from (f"the gateway has no {path}" for path in CALL.findall(text) if not _is_route(path))
    for service, command in COMMAND.findall(text):
        if command not in COMMON_COMMANDS and f'"{command}"' not in _main_of(service):
            yield f"{service} has no command {command}"
    settings = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    yield from (f"there is no setting {name}" for name in SETTING.findall(text) if f"`{name}`" not in settings)


def _queries(text: str) -> list[str]:
    """The queries of all blocks; blank lines separate them."""
    return [query for block in PROMQL.findall(text) for query in block.split("\n\n")]


@cache
def _main_of(service: str) -> str:
    (path,) = ROOT.glob(f"services/*/src/{service}/main.py")
    return path.read_text(encoding="utf-8")


def _is_route(path: str) -> bool:
    # Placeholders as the pages of this project write them: job_…, $ID, <id>.
    plain = re.sub(r"[^\w/.-]+", "x", path).rstrip(".")
    return any(compile_path(template)[0].fullmatch(plain) for template in route_templates())
