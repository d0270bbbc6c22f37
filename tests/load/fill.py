"""Rows for the growth runs: tenants with keys, and ledgers as after months of use. Written with SQL, in bulk.

Keys are minted by the gateway's own code. The books hold: each ledger transaction sums to zero, every reservation is
settled, and what tenants spent is what their settlements cost.
"""

import datetime as dt

import asyncpg
from chassis.ids import new_id
from gateway.auth.api_key import mint_key

ATTEMPTS = 5
"""Provider calls of each request: each is a settlement, and a ledger transaction of two entries."""
_PLAN, _ROLES = "free", ["member"]

# Ids as in production, ordered by time: a reservation each 26 s over the last month, when there are 10^5.
_PARAMETERS = """
CREATE TEMPORARY TABLE past ON COMMIT DROP AS
SELECT $1::text AS tenant_id, now() - interval '30 days' * (1 - i / $2::float8) - interval '1 hour' AS at,
       lpad(to_hex(i + 1000000), 12, '0') || substr(md5('bench' || i || $3), 1, 20) AS id
FROM generate_series(1, $2::int) AS i
"""
_RESERVATIONS = """
INSERT INTO metering.reservations (tenant_id, request_id, state, held, bounds, created_at, expires_at, closed_at)
SELECT tenant_id, 'req_' || id, 'settled', 1000, '[]', at, at + interval '15 minutes', at + interval '1 second'
FROM past
"""
_SETTLEMENTS = """
INSERT INTO metering.settlements (tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens,
                                  price_key, price_version, cost, exposed, event_id, settled_at)
SELECT tenant_id, 'req_' || id, attempt, 'billed', 'reported', 480, 60, 'instant/instant', 'prc_bench', 1, 0,
       'evt_' || id, at
FROM past, generate_series(1, $1::int) AS attempt
"""
_TRANSACTIONS = """
INSERT INTO metering.ledger_transactions (tenant_id, transaction_id, request_id, attempt, kind, created_at)
SELECT tenant_id, 'txn_' || id || '-' || attempt, 'req_' || id, attempt, 'settlement', at
FROM past, generate_series(1, $1::int) AS attempt
"""
_ENTRIES = """
INSERT INTO metering.ledger_entries (tenant_id, transaction_id, line, account, amount, price_version, created_at)
SELECT tenant_id, 'txn_' || id || '-' || attempt, line.number, line.account, line.amount, 'prc_bench', at
FROM past, generate_series(1, $1::int) AS attempt,
     (VALUES (1, 'receivable', 1), (2, 'revenue', -1)) AS line (number, account, amount)
"""
_USAGE = """
INSERT INTO metering.usage_daily (tenant_id, day, price_key, calls, input_tokens, output_tokens, cost)
SELECT tenant_id, (settled_at AT TIME ZONE 'UTC')::date, price_key, count(*), sum(input_tokens), sum(output_tokens),
       sum(cost)
FROM metering.settlements WHERE tenant_id = $1 AND price_version = 'prc_bench' GROUP BY 1, 2, 3
ON CONFLICT (tenant_id, day, price_key) DO UPDATE SET
    calls = usage_daily.calls + excluded.calls, input_tokens = usage_daily.input_tokens + excluded.input_tokens,
    output_tokens = usage_daily.output_tokens + excluded.output_tokens, cost = usage_daily.cost + excluded.cost
"""
_SPENT = "UPDATE metering.budgets SET spent = spent + $2 WHERE tenant_id = $1 AND scope = 'tenant'"
_UNBALANCED = """
SELECT count(*) FROM (
    SELECT FROM metering.ledger_entries GROUP BY tenant_id, transaction_id HAVING sum(amount) <> 0
) AS t
"""
_DRIFT = """
SELECT count(*) FROM metering.budgets AS b WHERE b.spent <> (
    SELECT coalesce(sum(s.cost), 0) FROM metering.settlements AS s WHERE s.tenant_id = b.tenant_id
)
"""


async def add_keys(dsn: str, tenants: int, keys: int) -> list[str]:
    """Create tenants with `keys` API keys between them; return the keys."""
    now = dt.datetime.now(dt.UTC)
    owners = [(new_id("ten_"), new_id("prj_")) for _ in range(tenants)]
    minted = [(owners[number % tenants], *mint_key("dev")) for number in range(keys)]
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.copy_records_to_table(
                "tenants", schema_name="identity", columns=["tenant_id", "name", "plan", "created_at"],
                records=[(tenant, f"bench-{tenant}", _PLAN, now) for tenant, _ in owners],
            )  # fmt: skip
            await connection.copy_records_to_table(
                "projects", schema_name="identity", columns=["tenant_id", "project_id", "name", "created_at"],
                records=[(tenant, project, "default", now) for tenant, project in owners],
            )  # fmt: skip
            await connection.copy_records_to_table(
                "api_keys", schema_name="identity",
                columns=["tenant_id", "key_id", "project_id", "name", "env", "sha256", "roles", "created_at"],
                records=[
                    (tenant, presented.key_id, project, "bench", "dev", presented.sha256, _ROLES, now)
                    for (tenant, project), presented, _ in minted
                ],
            )  # fmt: skip
        await connection.execute("ANALYZE identity.tenants, identity.projects, identity.api_keys")
    finally:
        await connection.close()
    return [text for _, _, text in minted]


async def add_ledger(dsn: str, tenant_id: str, requests: int) -> None:
    """Insert settled requests of the past for a tenant, ten ledger entries each, and check the ledger."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            # The constraint triggers at commit would check each entry alone; one query over all follows instead.
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(_PARAMETERS, tenant_id, requests, new_id("").lower())
            await connection.execute(_RESERVATIONS)
            for statement in (_SETTLEMENTS, _TRANSACTIONS, _ENTRIES):
                await connection.execute(statement, ATTEMPTS)
            await connection.execute(_USAGE, tenant_id)
            await connection.execute(_SPENT, tenant_id, requests * ATTEMPTS)
            await check_ledger(connection)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def check_ledger(connection: asyncpg.Connection) -> None:
    """Raise an error if an invariant is violated."""
    for question in (_UNBALANCED, _DRIFT):
        if wrong := await connection.fetchval(question):
            raise SystemExit(f"bench: the books do not hold in {wrong} places: {question}")
