"""The house lint catches what it says it catches, and nothing else."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("argosy_lint", ROOT / "scripts/lint.py")
assert spec is not None
assert spec.loader is not None
lint = importlib.util.module_from_spec(spec)
sys.modules["argosy_lint"] = lint
spec.loader.exec_module(lint)

DOMAIN = "services/metering/src/metering/domain/ledger.py"
ADAPTER = "services/metering/src/metering/adapters/budgets.py"

BROKEN = {
    "a transaction over all tenants": (ADAPTER, "async def f(db):\n    async with db.system() as c: ...\n"),
    "a connection that chassis.postgres did not make": (ADAPTER, "import asyncpg\nasyncpg.create_pool('dsn')\n"),
    "argosy.tenant is set outside": (ADAPTER, "SQL = \"SELECT set_config('argosy.tenant', '*', true)\"\n"),
    "cost is money and a float": (DOMAIN, "def bill(cost: float) -> None: ...\n"),
    "held is money and a float": (DOMAIN, "class Budget:\n    held: float | None = None\n"),
    "price_of answers money as a float": (DOMAIN, "def price_of(model: str) -> float: ...\n"),
    "the environment is read outside": (ADAPTER, "import os\nDSN = os.environ['DSN']\n"),
    "read outside Settings": (ADAPTER, "import os\nDSN = os.environ.get('DSN')\n"),
    "is read outside Settings": (ADAPTER, "import os\nDSN = os.getenv('DSN')\n"),
    "a domain reads the clock": (DOMAIN, "import time\nnow = time.time()\n"),
    "BaseHTTPMiddleware": (ADAPTER, "from starlette.middleware.base import BaseHTTPMiddleware\n"),
    "app.middleware() is": (ADAPTER, "@app.middleware('http')\nasync def f(request, call_next): ...\n"),
    "a module named utils": ("services/metering/src/metering/domain/utils.py", "X = 1\n"),
    "at most 400": (DOMAIN, "\n".join(f"A{i} = {i}" for i in range(500))),
    "has 71 lines": (DOMAIN, "def f():\n" + "\n".join(f"    a{i} = {i}" for i in range(70))),
}

TABLE = """
CREATE TABLE budgets (
  tenant_id text NOT NULL,
  scope text NOT NULL,
  PRIMARY KEY (tenant_id, scope)
);
ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON budgets USING (tenant_id = current_setting('argosy.tenant', true));
"""


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_seen_to_fail(rule: str) -> None:
    path, text = BROKEN[rule]
    assert [o for o in lint.offences_of(path, text) if rule in o.rule]


def test_code_that_keeps_the_rules_passes() -> None:
    good = "from metering.domain.money import NanoUsd\n\ndef cost(tokens: int, price: NanoUsd) -> NanoUsd: ...\n"
    assert lint.offences_of(DOMAIN, good) == []
    assert lint.offences_of(ADAPTER, "import os\nos.environ['SOME_LIBRARYS_SWITCH'] = '1'\n") == []
    assert lint.offences_of("services/metering/src/metering/migrations/0001_money.sql", TABLE) == []


@pytest.mark.parametrize(
    ("gone", "rule"),
    [
        ("  tenant_id text NOT NULL,\n", "not the first column"),
        ("  PRIMARY KEY (tenant_id, scope)\n", "primary key"),
        ("ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;\n", "no ENABLE"),
        ("ALTER TABLE budgets FORCE ROW LEVEL SECURITY;\n", "no FORCE"),
        ("CREATE POLICY tenant ON budgets USING (tenant_id = current_setting('argosy.tenant', true));\n", "no policy"),
    ],
)
def test_a_table_without_its_tenancy_is_seen(gone: str, rule: str) -> None:
    found = lint.offences_of("services/metering/src/metering/migrations/0001_money.sql", TABLE.replace(gone, ""))
    assert any(rule in offence.rule for offence in found)


def test_row_level_security_that_is_taken_back_is_none() -> None:
    taken_back = TABLE.replace("FORCE ROW", "NO FORCE ROW")
    found = lint.offences_of("services/metering/src/metering/migrations/0001_money.sql", taken_back)
    assert [offence.rule for offence in found] == ["table budgets: no FORCE ROW LEVEL SECURITY"]


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("CREATE TABLE a (x text PRIMARY KEY);", "not the first column"),
        ("CREATE UNLOGGED TABLE a (\n  x text PRIMARY KEY\n);", "primary key"),
        (TABLE + "CREATE POLICY all_of_it ON budgets USING (true);", "lets everything pass"),
    ],
)
def test_a_table_cannot_slip_through(table: str, rule: str) -> None:
    found = lint.offences_of("services/metering/src/metering/migrations/0001_money.sql", table)
    assert any(rule in offence.rule for offence in found)


def test_every_file_on_the_list_of_system_transactions_exists_and_uses_one() -> None:
    for listed in lint.SYSTEM_TRANSACTIONS:
        matches = [path for path in ROOT.glob("*/*/src/**/*.py") if str(path).endswith(listed)]
        assert matches, f"{listed} is listed and does not exist"
        assert ".system()" in matches[0].read_text(), f"{listed} is listed and needs no listing"
