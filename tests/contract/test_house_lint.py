"""The house lint finds each violation of its rules, and nothing in code that follows them."""

import pytest

from scripts.house_lint.__main__ import main, violations_in
from scripts.house_lint.source import ROOT
from scripts.house_lint.tenancy import SYSTEM_TRANSACTIONS

PURE = "services/metering/src/metering/ledger/model.py"
POSTGRES = "services/metering/src/metering/ledger/postgres.py"
UNLISTED = "services/metering/src/metering/budgets/postgres.py"
MIGRATION = "services/metering/src/metering/migrations/0001_tables.sql"

BROKEN = {
    "a transaction over all tenants": (UNLISTED, "async def f(db):\n    async with db.system() as c: ...\n"),
    "argosy.tenant is set outside": (POSTGRES, "SQL = \"SELECT set_config('argosy.tenant', '*', true)\"\n"),
    "cost is money and a float": (PURE, "def bill(cost: float) -> None: ...\n"),
    "held is money and a float": (PURE, "class Budget:\n    held: float | None = None\n"),
    "price_of returns money as a float": (PURE, "def price_of(model: str) -> float: ...\n"),
    "the environment is read outside": (POSTGRES, "import os\nDSN = os.environ['DSN']\n"),
    "read outside Settings": (POSTGRES, "import os\nDSN = os.environ.get('DSN')\n"),
    "is read outside Settings": (POSTGRES, "import os\nDSN = os.getenv('DSN')\n"),
    "a pure file reads the machine's clock": (PURE, "import time\nnow = time.time()\n"),
    "app.middleware() is": (POSTGRES, "@app.middleware('http')\nasync def f(request, call_next): ...\n"),
    "a module named utils": ("services/metering/src/metering/ledger/utils.py", "X = 1\n"),
    "a module named shared": ("services/metering/src/metering/shared/money.py", "X = 1\n"),
    "at most 300": (PURE, "".join(f"A{i} = {i}\n" for i in range(301))),
    "at most 400": ("tests/contract/test_x.py", "".join(f"A{i} = {i}\n" for i in range(401))),
    "has 61 lines": (PURE, "def f():\n" + "\n".join(f"    a{i} = {i}" for i in range(60))),
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
BARE_TABLE = "CREATE TABLE money.budgets (\n  tenant_id text NOT NULL,\n  PRIMARY KEY (tenant_id)\n);\n"
ISOLATION = "SELECT isolate_tenants('money.prices', 'money.budgets');\n"


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_seen_to_fail(rule: str) -> None:
    path, text = BROKEN[rule]
    assert [v for v in violations_in(path, text) if rule in v.message]


def test_code_that_follows_the_rules_passes() -> None:
    good = "from values.money import NanoUsd\n\ndef cost(tokens: int, price: NanoUsd) -> NanoUsd: ...\n"
    assert violations_in(PURE, good) == []
    assert violations_in(POSTGRES, "import os\nos.environ['SOME_LIBRARYS_SWITCH'] = '1'\n") == []
    assert violations_in(MIGRATION, TABLE) == []
    assert violations_in(PURE, "".join(f"A{i} = {i}\n" for i in range(300))) == []


@pytest.mark.parametrize(
    ("removed", "rule"),
    [
        ("  tenant_id text NOT NULL,\n", "not the first column"),
        ("  PRIMARY KEY (tenant_id, scope)\n", "primary key"),
        ("ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;\n", "no ENABLE"),
        ("ALTER TABLE budgets FORCE ROW LEVEL SECURITY;\n", "no FORCE"),
        ("CREATE POLICY tenant ON budgets USING (tenant_id = current_setting('argosy.tenant', true));\n", "no policy"),
    ],
)
def test_a_table_without_tenancy_is_found(removed: str, rule: str) -> None:
    assert any(rule in v.message for v in violations_in(MIGRATION, TABLE.replace(removed, "")))


def test_row_level_security_that_is_not_forced_is_found() -> None:
    found = violations_in(MIGRATION, TABLE.replace("FORCE ROW", "NO FORCE ROW"))
    assert [v.message for v in found] == ["table budgets: no FORCE ROW LEVEL SECURITY"]


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("CREATE TABLE a (x text PRIMARY KEY);", "not the first column"),
        ("CREATE UNLOGGED TABLE a (\n  x text PRIMARY KEY\n);", "primary key"),
        (TABLE + "CREATE POLICY all_of_it ON budgets USING (true);", "lets everything pass"),
    ],
)
def test_a_table_cannot_bypass_the_rule(table: str, rule: str) -> None:
    assert any(rule in v.message for v in violations_in(MIGRATION, table))


def test_row_level_security_may_be_enabled_by_the_helper_in_a_later_migration() -> None:
    assert violations_in(MIGRATION, BARE_TABLE)
    assert violations_in(MIGRATION, BARE_TABLE, BARE_TABLE + ISOLATION) == []
    assert violations_in(MIGRATION, BARE_TABLE, BARE_TABLE + ISOLATION.replace(", 'money.budgets'", ""))


def test_each_listed_system_transaction_exists() -> None:
    for listed in SYSTEM_TRANSACTIONS:
        matches = [path for path in ROOT.glob("*/*/src/**/*.py") if str(path).endswith(f"/{listed}")]
        assert matches, f"{listed} is listed and does not exist"
        assert ".system()" in matches[0].read_text(), f"{listed} is listed and needs no entry"


def test_a_violation_is_printed_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conftest.py"]) == 0
    assert capsys.readouterr().out == ""
