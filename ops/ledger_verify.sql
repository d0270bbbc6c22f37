-- Every row is a difference in the books: what differs, whose it is, and by how much, in nano-USD. It holds at any time,
-- while requests run too, and covers all of the ledger, where metering's own audit covers what is new.
-- Run as a role that sees the rows of all tenants: a superuser, or after SET argosy.tenant = '*'.
SET argosy.tenant = '*';

SELECT 'a transaction does not sum to zero' AS difference, tenant_id || ' ' || transaction_id AS whose, sum(amount) AS amount
FROM metering.ledger_entries GROUP BY tenant_id, transaction_id HAVING sum(amount) <> 0
UNION ALL
SELECT 'spent is not what settlements cost', b.tenant_id, b.spent - coalesce(s.cost, 0)
FROM metering.budgets AS b
LEFT JOIN (
    SELECT tenant_id, sum(cost + reconciled_cost) AS cost FROM metering.settlements GROUP BY tenant_id
) AS s USING (tenant_id)
WHERE b.scope = 'tenant' AND b.spent <> coalesce(s.cost, 0)
UNION ALL
SELECT 'held is not what reservations hold', b.tenant_id, b.held - coalesce(r.held, 0)
FROM metering.budgets AS b
LEFT JOIN (
    SELECT tenant_id, sum(held) AS held FROM metering.reservations WHERE state = 'held' GROUP BY tenant_id
) AS r USING (tenant_id)
WHERE b.scope = 'tenant' AND b.held <> coalesce(r.held, 0)
UNION ALL
SELECT 'receivable is not what was settled', t.tenant_id, t.receivable - coalesce(s.cost, 0)
FROM (
    SELECT tenant_id, sum(amount) AS receivable FROM metering.ledger_entries WHERE account = 'receivable' GROUP BY tenant_id
) AS t
LEFT JOIN (
    SELECT tenant_id, sum(cost + reconciled_cost) AS cost FROM metering.settlements GROUP BY tenant_id
) AS s USING (tenant_id)
WHERE t.receivable <> coalesce(s.cost, 0);
