"""Migrations that would break the version before, or stop its writers, are refused unless they say why they may."""

import pytest

from scripts.house_lint.migrations import PREDATE, migrations_expand_first, statements
from scripts.house_lint.source import ROOT

PATH = "services/metering/src/metering/migrations/0099_words.sql"

CONTRACTIONS = {
    "ALTER TABLE m.budgets DROP COLUMN cap;": "drops a column",
    "ALTER TABLE m.budgets DROP cap;": "drops a column",
    "ALTER TABLE m.budgets ADD COLUMN a int, DROP COLUMN IF EXISTS b;": "drops a column",
    "DROP TABLE m.budgets;": "drops a table",
    "drop table if exists m.budgets;": "drops a table",
    "DROP FUNCTION m.reserve(text);": "drops a function",
    "ALTER TABLE m.budgets RENAME TO caps;": "renames",
    "ALTER TABLE m.budgets RENAME COLUMN cap TO most;": "renames",
    "ALTER TABLE m.budgets ALTER COLUMN cap SET NOT NULL;": "requires a column",
    "ALTER TABLE m.budgets ALTER cap SET NOT NULL;": "requires a column",
    "ALTER TABLE m.budgets ALTER COLUMN cap DROP DEFAULT;": "drops a default",
    "ALTER TABLE m.budgets ALTER COLUMN cap TYPE numeric;": "changes the type",
    "ALTER TABLE m.budgets\n  ALTER COLUMN cap\n  SET DATA TYPE numeric USING cap::numeric;": "changes the type",
    "ALTER TABLE m.budgets ADD COLUMN cap bigint NOT NULL;": "adds a column",
    "ALTER TABLE ONLY m.budgets ADD cap bigint NOT NULL CHECK (cap > 0);": "adds a column",
}
LONG_LOCKS = {
    "CREATE INDEX budgets_by_cap ON m.budgets (cap);": "builds an index",
    "CREATE UNIQUE INDEX ON m.budgets (cap);": "builds an index",
    "ALTER TABLE m.budgets ADD CONSTRAINT positive CHECK (cap > 0);": "checks all rows",
    "ALTER TABLE m.budgets ADD FOREIGN KEY (a) REFERENCES m.others (a);": "checks all rows",
}
EXPANSIONS = (
    "CREATE TABLE m.caps (tenant_id text NOT NULL, cap bigint NOT NULL); CREATE INDEX ON m.caps (cap);",
    "CREATE TABLE m.caps (a int); ALTER TABLE m.caps ALTER COLUMN a SET NOT NULL, ADD CONSTRAINT b CHECK (a > 0);",
    "ALTER TABLE m.budgets ADD COLUMN cap bigint;",
    "ALTER TABLE m.budgets ADD COLUMN cap bigint NOT NULL DEFAULT 0 CHECK (cap >= 0), ADD COLUMN note text;",
    "ALTER TABLE m.budgets ADD COLUMN day date NOT NULL GENERATED ALWAYS AS (now()::date) STORED;",
    "ALTER TABLE m.budgets DROP CONSTRAINT positive;",
    "ALTER TABLE m.budgets ADD CONSTRAINT positive CHECK (cap > 0) NOT VALID;",
    "ALTER TABLE m.budgets ALTER COLUMN cap SET DEFAULT 1;",
    "INSERT INTO m.notes VALUES ('; DROP TABLE m.budgets;'); -- DROP TABLE m.budgets;",
    "CREATE FUNCTION m.f() RETURNS void LANGUAGE sql AS $$ DROP TABLE m.budgets; $$;",
    "/* DROP TABLE m.budgets; */ SELECT 1;",
)


def messages(sql: str, path: str = PATH) -> list[str]:
    return [violation.message for violation in migrations_expand_first(path, sql)]


@pytest.mark.parametrize(("sql", "message"), (CONTRACTIONS | LONG_LOCKS).items())
def test_what_breaks_the_version_before_is_refused(sql: str, message: str) -> None:
    assert [found for found in messages(sql) if found.startswith(message)] == messages(sql) != []


@pytest.mark.parametrize("sql", EXPANSIONS)
def test_what_only_adds_passes(sql: str) -> None:
    assert messages(sql) == []


@pytest.mark.parametrize("sql", CONTRACTIONS)
def test_a_contraction_passes_with_the_release_since_which_it_may(sql: str) -> None:
    assert messages(f"-- contract: 1.4 reads the other column\n{sql}") == []
    assert messages(f"-- contract:\n{sql}") != []
    assert messages(f"-- locks: short\n{sql}") != []


@pytest.mark.parametrize("sql", LONG_LOCKS)
def test_a_long_lock_passes_with_the_reason_why_it_is_short(sql: str) -> None:
    assert messages(f"-- locks: one row a tenant\n{sql}") == []
    assert messages(f"-- contract: since 1.4\n{sql}") != []


def test_a_mark_is_for_the_statement_after_it_alone() -> None:
    assert len(messages("-- contract: since 1.4\nDROP TABLE m.a;\nDROP TABLE m.b;")) == 1


def test_no_mark_lets_an_index_be_built_concurrently_inside_a_transaction() -> None:
    assert messages("-- locks: none\nCREATE INDEX CONCURRENTLY a ON m.budgets (cap);")[0].startswith(
        "CONCURRENTLY cannot"
    )


def test_the_line_is_that_of_the_statement() -> None:
    sql = "-- A comment.\nSELECT 1;\n\n-- Another.\n\nDROP TABLE\n  m.a;\n"
    assert [violation.line for violation in migrations_expand_first(PATH, sql)] == [6]
    assert [statement.line for statement in statements(sql)] == [2, 6]


def test_functions_are_replaced_as_a_whole_and_are_not_judged() -> None:
    assert messages("DROP FUNCTION m.a(text);", PATH.replace("0099", "functions/a")) == []


@pytest.mark.parametrize("file", PREDATE)
def test_each_older_file_needs_its_place_in_the_list(file: str) -> None:
    sql = (ROOT / "services" / file.split("/", maxsplit=1)[0] / "src" / file).read_text()
    assert messages(sql), "it breaks no rule: take it off the list"
    assert messages(sql, f"services/x/src/{file}") == []
