"""`python -m scripts.ops_lint`: prints what is wrong in `ops/`, and exits with 1 if anything is."""

import sys
from copy import copy
from pathlib import Path

from scripts.ops_lint.catalog import ROOT, Catalog, declared_catalog
from scripts.ops_lint.dashboards import Dashboard, check_dashboard
from scripts.ops_lint.rules import Alert, check_rules, read_rules, untested_alerts
from scripts.ops_lint.runbooks import check_runbooks


def check(ops: Path) -> list[str]:
    """Return all problems of a folder with `alerts`, `dashboards` and `runbooks`."""
    declared = declared_catalog()
    catalog = Catalog(copy(declared.series), declared.code)
    alerts, problems = check_rules(read_rules(ops / "alerts"), catalog)
    problems += untested_alerts(alerts, ops / "alerts" / "tests")
    dashboards: dict[str, Dashboard] = {}
    for path in sorted((ops / "dashboards").glob("*.json")):
        dashboard, found = check_dashboard(path, catalog)
        dashboards[dashboard.uid] = dashboard
        problems += found
    problems += [problem for alert in alerts for problem in _check_shown(alert, dashboards)]
    return problems + check_runbooks(ops / "runbooks", alerts, catalog)


def _check_shown(alert: Alert, dashboards: dict[str, Dashboard]) -> list[str]:
    dashboard = dashboards.get(alert.dashboard)
    if dashboard is None:
        return [f"{alert.path.name}: {alert.name} names the dashboard {alert.dashboard}, which does not exist"]
    return [
        f"{dashboard.path.name} does not show {metric}, which {alert.name} reads"
        for metric in sorted(alert.query.metrics - dashboard.metrics)
    ]


def main() -> int:
    problems = check(ROOT / "ops")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
