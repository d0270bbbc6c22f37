-- Lock order of all functions in this folder: reservations by key (the sweeper: SKIP LOCKED), then budgets by key, then
-- rows of usage_daily, usage_classes_daily and cache_daily by key. A transaction that holds the lock of a budget never waits for a reservation, so two of them
-- cannot wait for each other.
--
-- No statement joins the arrays of keys with a table: whatever is switched off, a plan that is made and cached
-- while the table is small may prefer to read its whole index. Each statement names the keys of one table, or looks them
-- up row by row in a subquery that the planner cannot turn into a join (a scalar, a locking clause, OFFSET 0).

-- Lock the budgets of these tenants; make those that are missing, with `default_cap`.
CREATE OR REPLACE FUNCTION metering.lock_budgets(tenants text[], default_cap bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO metering.budgets (tenant_id, scope, scope_id, cap)
    SELECT DISTINCT t, 'tenant', t, default_cap FROM unnest(tenants) AS t
    WHERE (SELECT true FROM metering.budgets AS b WHERE b.tenant_id = t AND b.scope = 'tenant' AND b.scope_id = t) IS NULL
    ORDER BY t
    ON CONFLICT DO NOTHING;
    PERFORM FROM metering.budgets AS b WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant'
    ORDER BY b.tenant_id, b.scope, b.scope_id FOR NO KEY UPDATE;
END $$;
