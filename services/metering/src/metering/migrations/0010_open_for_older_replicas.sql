-- Replicas from before 0006 move budgets in no order of their own, so the door that they know locks budgets again before
-- it opens, as in 0003: without that they and their successors run into deadlocks for as long as a roll-out takes. What
-- 0006 and 0008 made of it has a door of its own.
CREATE FUNCTION metering.open_requests(tenants text[], requests text[], default_cap bigint) RETURNS TABLE (
    tenant_id text, request_id text, state text, held bigint, bounds jsonb, created_at timestamptz,
    expires_at timestamptz, settled integer[], paid bigint, cap bigint, spent bigint, budget_held bigint,
    opened_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    locked bigint;
    alive bigint;
    visible bigint;
BEGIN
    PERFORM metering.begin_by_key();
    SELECT count(*), count(*) FILTER (WHERE l.state = 'held') INTO locked, alive
    FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id) ORDER BY 1, 2) AS i
    CROSS JOIN LATERAL (
        SELECT r.state FROM metering.reservations AS r
        WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id FOR NO KEY UPDATE
    ) AS l;
    IF alive < cardinality(requests) THEN
        PERFORM metering.lock_budgets(tenants, default_cap);
        SELECT count(*) INTO visible
        FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id)) AS i
        WHERE (
            SELECT true FROM metering.reservations AS r WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
        );
        IF visible <> locked THEN
            -- One came into being between the two locks. Taking its lock now would break the order: come back.
            RAISE EXCEPTION 'a reservation was made meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;

    opened_at := clock_timestamp();
    RETURN QUERY
    SELECT i.tenant_id, i.request_id, r.state, r.held, r.bounds, r.created_at, r.expires_at,
           coalesce(s.settled, '{}'), coalesce(s.paid, 0), b.cap, b.spent, b.held, opened_at
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
        SELECT array_agg(x.attempt) AS settled, sum(x.cost)::bigint AS paid
        FROM metering.settlements AS x
        WHERE r.state <> 'held' AND x.tenant_id = i.tenant_id AND x.request_id = i.request_id
    ) AS s ON true;
END $$;

CREATE OR REPLACE FUNCTION metering.open_accounts(tenants text[], requests text[], default_cap bigint) RETURNS TABLE (
    tenant_id text, request_id text, state text, held bigint, bounds jsonb, created_at timestamptz,
    expires_at timestamptz, settled integer[], paid bigint, cap bigint, spent bigint, budget_held bigint,
    opened_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    locked bigint;
    visible bigint;
BEGIN
    PERFORM metering.begin_by_key();
    SELECT count(*) INTO locked
    FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id) ORDER BY 1, 2) AS i
    CROSS JOIN LATERAL (
        SELECT r.state FROM metering.reservations AS r
        WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id FOR NO KEY UPDATE
    ) AS l;
    PERFORM metering.lock_budgets(tenants, default_cap);
    SELECT count(*) INTO visible
    FROM (SELECT DISTINCT * FROM unnest(tenants, requests) AS u (tenant_id, request_id)) AS i
    WHERE (
        SELECT true FROM metering.reservations AS r WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
    );
    IF visible <> locked THEN
        RAISE EXCEPTION 'a reservation was made meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN QUERY SELECT * FROM metering.open_requests(tenants, requests, default_cap);
END $$;
