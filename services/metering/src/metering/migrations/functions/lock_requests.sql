-- Lock the requests that usage events are about to change, and return their state: one row per distinct request. `state`
-- is null for a request without a reservation, `settlements` is null for one that is held or has none.
--
-- Budgets are locked here only where the result depends on them (`with_budgets`, or a request that is not held any more,
-- never was, or comes twice). A held request pays for itself: metering.finish_settlement adjusts its budget at the end of
-- the transaction, so reservations of the tenant wait for that last statement and the commit only.
CREATE OR REPLACE FUNCTION metering.lock_requests(
    tenants text[], requests text[], default_cap bigint, with_budgets boolean DEFAULT false
) RETURNS TABLE (
    tenant_id text, request_id text, state text, held bigint, bounds jsonb, attempts jsonb, created_at timestamptz,
    expires_at timestamptz, settlements jsonb, cap bigint, spent bigint, budget_held bigint, budget_exposed bigint,
    locked_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    locked_count bigint;
    held_count bigint;
    visible_count bigint;
BEGIN
    PERFORM metering.configure_transaction();
    SELECT count(*), count(*) FILTER (WHERE l.state = 'held') INTO locked_count, held_count
    FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id) ORDER BY 1, 2) AS i
    CROSS JOIN LATERAL (
        SELECT r.state FROM metering.reservations AS r
        WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id FOR NO KEY UPDATE
    ) AS l;
    IF with_budgets OR held_count < cardinality(requests) THEN
        PERFORM metering.lock_budgets(tenants, default_cap);
        SELECT count(*) INTO visible_count
        FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id)) AS i
        WHERE (
            SELECT true FROM metering.reservations AS r WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
        );
        IF visible_count <> locked_count THEN
            -- A reservation was committed between the two locks. Locking it now would break the lock order: try again.
            RAISE EXCEPTION 'a reservation was made meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;

    locked_at := clock_timestamp();
    -- A held request has no settlements yet.
    RETURN QUERY
    SELECT i.tenant_id, i.request_id, r.state, r.held, r.bounds, r.attempts, r.created_at, r.expires_at,
           s.settlements, b.cap, b.spent, b.held, b.exposed, locked_at
    FROM (SELECT DISTINCT u.tenant_id, u.request_id FROM unnest(tenants, requests) AS u (tenant_id, request_id)) AS i
    CROSS JOIN LATERAL (
        SELECT b.* FROM metering.budgets AS b
        WHERE b.tenant_id = i.tenant_id AND b.scope = 'tenant' AND b.scope_id = i.tenant_id OFFSET 0
    ) AS b
    LEFT JOIN LATERAL (
        SELECT r.* FROM metering.reservations AS r
        WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id OFFSET 0
    ) AS r ON true
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object(
            'attempt', x.attempt, 'cost', x.cost, 'exposed', x.exposed, 'counted', x.counted,
            'estimate', x.event_id = '' AND x.reconciliation IS NULL,
            'open', x.reconciliation IS NULL, 'reconciled_cost', x.reconciled_cost
        )) AS settlements
        FROM metering.settlements AS x
        WHERE r.state <> 'held' AND x.tenant_id = i.tenant_id AND x.request_id = i.request_id
    ) AS s ON true;
END $$;

-- The same for those of these reservations whose lease is still over, by the clock of the database. Sweepers that run at
-- the same time take different ones (SKIP LOCKED); what was settled or extended meanwhile is left out.
CREATE OR REPLACE FUNCTION metering.lock_overdue_requests(
    tenants text[], requests text[], default_cap bigint
) RETURNS TABLE (
    tenant_id text, request_id text, state text, held bigint, bounds jsonb, attempts jsonb, created_at timestamptz,
    expires_at timestamptz, settlements jsonb, cap bigint, spent bigint, budget_held bigint, budget_exposed bigint,
    locked_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    locked_tenants text[];
    locked_requests text[];
BEGIN
    PERFORM metering.configure_transaction();
    SELECT array_agg(o.tenant_id), array_agg(o.request_id) INTO locked_tenants, locked_requests FROM (
        SELECT r.tenant_id, r.request_id
        FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id) ORDER BY 1, 2) AS i
        CROSS JOIN LATERAL (
            SELECT * FROM metering.reservations AS r
            WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
                AND r.state = 'held' AND r.expires_at <= clock_timestamp()
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS r
    ) AS o;
    IF locked_tenants IS NOT NULL THEN
        RETURN QUERY SELECT * FROM metering.lock_requests(locked_tenants, locked_requests, default_cap, true);
    END IF;
END $$;
