"""The lint of `ops/` finds what would leave an alert blind or a panel empty, and nothing in what is there."""

import shutil
from pathlib import Path

import orjson
import pytest
from prometheus_client import REGISTRY

from scripts.ops_lint.__main__ import check
from scripts.ops_lint.catalog import ROOT, Catalog, Series, declared_catalog
from scripts.ops_lint.promql import analyze
from scripts.ops_lint.tokens import PromqlError

TARGET = frozenset({"job", "instance"})
CATALOG = Catalog(
    {
        "requests_total": Series(TARGET | {"route", "status"}, "counter", "requests_total"),
        "seconds_bucket": Series(TARGET | {"route", "le"}, "counter", "seconds", ("0.5", "1.0", "+Inf")),
        "seconds_count": Series(TARGET | {"route"}, "counter", "seconds"),
        "queue_jobs": Series(TARGET | {"pool", "lane"}, "gauge", "queue_jobs"),
        "slots": Series(TARGET | {"pool"}, "gauge", "slots"),
        "outcomes_total": Series(TARGET | {"outcome"}, "counter", "outcomes_total"),
    },
    'OUTCOMES = ("succeeded", "failed")',
)

RESULTS = {
    'sum by (route) (rate(requests_total{status=~"5.."}[5m]))': {"route"},
    "sum(rate(requests_total[5m])) by (route)": {"route"},
    "sum without (instance) (queue_jobs)": {"job", "pool", "lane"},
    "max(queue_jobs) > 3": set(),
    "histogram_quantile(0.95, sum by (le, route) (rate(seconds_bucket[5m])))": {"route"},
    "1 - sum(rate(seconds_bucket{le='0.5'}[5m])) / sum(rate(seconds_count[5m]))": set(),
    "max by (pool) (queue_jobs) > 0 and on (pool) max by (pool, job) (slots) == 0": {"pool"},
    "queue_jobs / on (pool, job) group_left (instance) slots": {"job", "instance", "pool", "lane"},
    "sum(queue_jobs) or vector(0)": set(),
    'label_replace(absent(slots{job="x"}), "service", "y", "", "")': {"service"},
    "topk(3, slots)": {"job", "instance", "pool"},
    "max_over_time(sum(slots)[1d:5m]) - sum(slots offset 1d)": set(),
    "-sum(slots) * 2 ^ 3 # a comment\n > bool 1": set(),
}

MISTAKES = {
    "no service declares request_total": "rate(request_total[5m])",
    "no service declares seconds,": "seconds",
    "requests_total has no label code": 'requests_total{code="500"}',
    "what is aggregated has no label tenant": "sum by (tenant) (queue_jobs)",
    "no label le": "histogram_quantile(0.9, sum by (route) (rate(seconds_bucket[5m])))",
    "no bucket 2": 'seconds_bucket{le="2"}',
    "no code sets outcome of outcomes_total to 'suceeded'": 'outcomes_total{outcome=~"failed|suceeded"}',
    "rate is for counters": "rate(queue_jobs[5m])",
    "deriv is for gauges": "deriv(requests_total[5m])",
    "needs a range": "rate(requests_total)",
    "the result is a range": "requests_total[5m]",
    "both sides never match: only one of them has lane": "max by (pool, lane) (queue_jobs) / max by (pool) (slots)",
    "the right side has no label lane": "queue_jobs and on (lane) slots",
    "the side of one has no label lane": "queue_jobs / on (pool) group_left (lane) slots",
    "the function rates is not known": "rates(requests_total[5m])",
    "')' is missing": "sum(requests_total",
    "was not expected": "sum(requests_total) sum(slots)",
    "is not PromQL": "requests_total ? 1",
    "a vector is needed": "sum(3)",
}


@pytest.mark.parametrize("expression", RESULTS)
def test_the_labels_of_a_result_are_known(expression: str) -> None:
    assert analyze(expression, CATALOG).labels == RESULTS[expression]


@pytest.mark.parametrize("message", MISTAKES)
def test_an_expression_that_evaluates_to_nothing_is_refused(message: str) -> None:
    with pytest.raises(PromqlError) as raised:
        analyze(MISTAKES[message], CATALOG)
    assert message in f"{raised.value},"


def test_metrics_are_those_behind_suffixes_and_recording_rules() -> None:
    catalog = Catalog(dict(CATALOG.series))
    catalog.series["route:seconds:p95"] = Series(frozenset({"route"}), "", "", sources=frozenset({"seconds"}))
    query = analyze('route:seconds:p95 > 3 or sum by (route) (requests_total{route="$route"}) > 1', catalog)
    assert query.metrics == {"seconds", "requests_total"}


def test_the_metrics_of_all_services_can_be_queried() -> None:
    series = declared_catalog().series
    assert series["gateway_stream_first_byte_seconds_bucket"].labels == {"job", "instance", "route", "le"}
    assert "2.5" in series["gateway_stream_first_byte_seconds_bucket"].buckets
    assert series["process_open_fds"].kind == "gauge"
    assert "orchestrator_generation_seconds" not in series


RARE: tuple[tuple[str, dict[str, str]], ...] = (
    ("gateway_revocations_total", {"event": "deferred"}),
    ("metering_exposed_nano_usd_total", {"cause": "fleet"}),
    ("orchestrator_jobs_quarantined_total", {}),
    ("orchestrator_jobs_reaped_total", {"what": "run"}),
    ("orchestrator_webhook_attempts_total", {"outcome": "exhausted"}),
    ("orchestrator_webhook_endpoints_disabled_total", {"reason": "failing"}),
)


@pytest.mark.parametrize(("name", "labels"), RARE, ids=[name for name, _ in RARE])
def test_a_counter_that_an_alert_watches_for_its_first_increase_has_a_series(name: str, labels: dict[str, str]) -> None:
    declared_catalog()
    assert REGISTRY.get_sample_value(name, labels) is not None


@pytest.fixture
def ops(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "ops", tmp_path / "ops"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_there_has_no_problem(ops: Path) -> None:
    assert check(ops) == []


EDITS = {
    "has no runbook": ("runbooks/HoldDrift.md", None, None),
    "has no test that it fires": ("alerts/tests/business.yaml", 'alertname="HoldDrift"', 'alertname="Other"'),
    "severity is none of": ("alerts/business.yaml", "severity: critical", "severity: page"),
    "level is none of": ("alerts/business.yaml", "level: business", "level: 4"),
    "annotations are not": ("alerts/business.yaml", "          dashboard: argosy-money\n", ""),
    "which does not exist": ("alerts/business.yaml", "dashboard: argosy-money", "dashboard: argosy-mony"),
    "runbook is not": ("alerts/business.yaml", "ops/runbooks/HoldDrift", "ops/runbooks/HoldDrifts"),
    "writes the label reason": ("alerts/llm.yaml", "sum by (reason)", "sum by (instance)"),
    "level:metric:operation": ("alerts/recording.yaml", "route:gateway_requests:rate5m", "gateway_requests_rate5m"),
    "does not show metering_overdue": (
        "dashboards/money.json",
        "metering_overdue_reservations",
        "metering_held_nano_usd",
    ),
    "the legend writes cause": ("dashboards/money.json", "sum by (cause)", "sum by (job)"),
    "no service declares metering_spend": (
        "dashboards/money.json",
        "max(metering_spent_nano_usd) / 1e9",
        "metering_spend",
    ),
    "there is no variable pools": ("dashboards/jobs.json", "$pool", "$pools"),
    "has no label pol": ("dashboards/jobs.json", "slots, pool)", "slots, pol)"),
    "its uid is not": ("dashboards/jobs.json", '"argosy-jobs"', '"jobs"'),
    "its data source is no variable": ("dashboards/jobs.json", '"${prometheus}"', '"P1809F7CD0C75ACF3"'),
    "its sections are not": ("runbooks/HoldDrift.md", "## Impact", "## Effect"),
    "it does not name metering_budget_drift": ("runbooks/HoldDrift.md", "metering_budget_drift_nano_usd` is", "it` is"),
    "no code logs ledger_unbalanced": ("runbooks/HoldDrift.md", "ledger_out_of_balance", "ledger_unbalanced"),
    "metering has no command replay": ("runbooks/DeadLetters.md", "metering replay-dead-letters", "metering replay"),
    "the gateway has no /admin/v1/queue": ("runbooks/QueueDeep.md", "/admin/v1/queues", "/admin/v1/queue"),
    "there is no setting METERING_AUDITS": ("runbooks/LedgerAuditStale.md", "METERING_AUDIT_", "METERING_AUDITS_"),
}


@pytest.mark.parametrize("message", EDITS)
def test_a_break_in_the_chain_from_alert_to_dashboard_is_found(ops: Path, message: str) -> None:
    name, old, new = EDITS[message]
    if old is None or new is None:
        (ops / name).unlink()
    else:
        edit(ops / name, old, new)

    assert any(message in problem for problem in check(ops))


def test_panels_do_not_cover_one_another(ops: Path) -> None:
    path = ops / "dashboards/fleet.json"
    content = orjson.loads(path.read_bytes())
    content["panels"][2]["gridPos"] = content["panels"][1]["gridPos"]
    path.write_bytes(orjson.dumps(content))

    assert any("covers" in problem for problem in check(ops))


def test_every_level_and_runbook_is_in_the_overview() -> None:
    page = (ROOT / "ops/README.md").read_text()
    for runbook in sorted((ROOT / "ops/runbooks").glob("*.md")):
        assert f"runbooks/{runbook.name}" in page, f"ops/README.md does not link {runbook.name}"
