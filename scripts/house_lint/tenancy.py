"""Tenancy: transactions and tables see one tenant, except where a list gives the reason."""

import ast
import re
from collections.abc import Iterator

from scripts.house_lint.source import SourceFile, Violation

# Files that may use a transaction over all tenants, and why.
SYSTEM_TRANSACTIONS = {
    "chassis/kafka/outbox.py": "relays events of all tenants",
    "chassis/postgres/database.py": "checks whether the database answers",
    "chassis/postgres/leases.py": "claims and reaps leases of all tenants",
    "chassis/postgres/readiness.py": "checks what the service relies on",
    "gateway/api_keys/postgres.py": "looks up a key before its tenant is known",
    "gateway/tenants/postgres.py": "administers tenants",
    "metering/budgets/outbox.py": "publishes notices about the budgets of all tenants",
    "metering/ledger/postgres.py": "audits the books of all tenants",
    "metering/prices/postgres.py": "reads the price book of all tenants",
    "metering/reservations/postgres.py": "groups reservations of many tenants in one transaction; reaps leases",
    "metering/settlement/postgres.py": "settles events of many tenants in one transaction",
    "orchestrator/batches/postgres.py": "claims due batches of any tenant",
    "orchestrator/configuration/postgres.py": "reads and writes the configuration of all tenants",
    "orchestrator/flags/postgres.py": "reads and changes the flags of the installation",
    "orchestrator/routing/postgres.py": "reads and edits the routes of all tenants",
    "orchestrator/jobs/listing/postgres.py": "lists jobs of all tenants for operators",
    "orchestrator/jobs/offers/postgres.py": "offers the dispatched jobs of all tenants to workers",
    "orchestrator/idempotency/postgres.py": "forgets expired keys of all tenants",
    "orchestrator/pools/postgres.py": "assigns tenants to pools, and counts the jobs of all of them",
    "orchestrator/queues/postgres.py": "counts the jobs of all tenants; pauses queues of any",
    "orchestrator/upstreams/credentials_postgres.py": "reads and changes the credentials of all tenants",
    "orchestrator/upstreams/postgres.py": "reads and changes the upstreams of the installation",
    "orchestrator/usage/outbox.py": "groups usage events of many tenants in one transaction",
    "orchestrator/webhooks/delivery_postgres.py": "finds due deliveries, and old ones, of any tenant",
    "orchestrator/webhooks/secrets_postgres.py": "encrypts the secrets of all tenants anew",
    "retrieval/deletions/records_postgres.py": "forgets old deletions of all tenants",
    "retrieval/deletions/postgres.py": "finds objects to delete, of any tenant",
    "retrieval/ingestion/postgres.py": "claims attachments to ingest, of any tenant",
    "retrieval/semantic_cache/postgres.py": "deletes expired prompts of any tenant, and those that an operator purges",
    "retrieval/reindexing/postgres.py": "finds files of older rules, of any tenant",
    "retrieval/search/indexes_postgres.py": "counts the chunks of large stores to build their indexes",
    "retrieval/search/words_postgres.py": "finds large stores whose words are to be counted, of any tenant",
    "retrieval/store_migrations/runs_postgres.py": "finds migrations to go on with, of any tenant",
    "retrieval/vector_stores/postgres.py": "empties expired stores and names their embedding models, of any tenant",
}


def system_transactions_are_listed(file: SourceFile) -> Iterator[Violation]:
    """`Database.system()` sees the rows of every tenant; each file that calls it is listed with its reason."""
    if not file.is_shipped or any(file.path.endswith(f"/{listed}") for listed in SYSTEM_TRANSACTIONS):
        return
    for node in file.calls():
        if isinstance(node.func, ast.Attribute) and node.func.attr == "system" and not node.args and not node.keywords:
            yield Violation(node.lineno, "a transaction over all tenants outside the list in house_lint/tenancy.py")


def the_tenant_is_set_by_the_chassis(file: SourceFile) -> Iterator[Violation]:
    """Only `chassis.postgres` writes the setting that row-level security reads."""
    if not file.is_shipped or "/chassis/postgres" in file.path:
        return
    for node in file.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "argosy.tenant" in node.value:
            yield Violation(node.lineno, "argosy.tenant is set outside chassis.postgres")


TABLE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([\w.]+)\s*\(", re.IGNORECASE)
ISOLATED = re.compile(r"\bisolate_tenants\(([^)]*)\)", re.IGNORECASE)


def tables_have_a_tenant(sql: str, folder: str = "") -> Iterator[Violation]:
    """Every table starts with tenant_id, in its columns and its primary key, and forces row-level security.

    `folder` is the text of all migrations of the service: row-level security may be enabled in a later file.
    """
    statements = _expanded(folder or sql)
    for table in TABLE.finditer(sql):
        line = sql.count("\n", 0, table.start()) + 1
        for message in _missing_tenancy(table[1], _in_parentheses(sql, table.end()), statements):
            yield Violation(line, f"table {table[1]}: {message}")


def _expanded(sql: str) -> str:
    """Write out what `SELECT isolate_tenants('a', 'b')` does; `chassis.postgres.migrate` defines it."""
    names = [name for call in ISOLATED.findall(sql) for name in re.findall(r"'([\w.]+)'", call)]
    return sql + "".join(
        f"\nALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        f"\nCREATE POLICY tenant ON {name} USING (tenant_id = current_setting('argosy.tenant', true));"
        for name in names
    )


def _missing_tenancy(name: str, body: str, sql: str) -> Iterator[str]:
    """Yield what a table, with its columns and constraints in `body`, lacks in the migrations."""
    if not re.match(r"\s*(--[^\n]*\n\s*)*tenant_id\s+text\s+NOT NULL", body, re.IGNORECASE):
        yield "tenant_id is not the first column"
    if not re.search(r"PRIMARY KEY\s*\(\s*tenant_id\b", body, re.IGNORECASE):
        yield "the primary key does not start with tenant_id"
    for state in ("ENABLE", "FORCE"):
        statement = rf"ALTER TABLE {re.escape(name)}\s+([^;]*,\s*)?{state} ROW LEVEL SECURITY"  # not NO FORCE
        if not re.search(statement, sql, re.IGNORECASE):
            yield f"no {state} ROW LEVEL SECURITY"
    policies = re.findall(rf"CREATE POLICY \w+ ON {re.escape(name)}\b([^;]*);", sql, re.IGNORECASE)
    if not any("current_setting('argosy.tenant', true)" in policy for policy in policies):
        yield "no policy by argosy.tenant"
    if any(re.search(r"(USING|CHECK)\s*\(\s*true\s*\)", policy, re.IGNORECASE) for policy in policies):
        yield "a policy that lets everything pass"


def _in_parentheses(sql: str, start: int) -> str:
    """Return the text from `start`, just after an opening parenthesis, to the closing one."""
    depth = 1
    for place in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[place], 0)
        if not depth:
            return sql[start:place]
    return sql[start:]
