-- The door of 0003, but budgets are locked here only where the answer depends on them: for requests that are not held (any more)
-- or come twice. A held request pays for itself, so its budget is moved by metering.move at the end of the transaction,
-- and nobody who reserves has to wait for the rest of it. What is held has no settlements yet.
CREATE OR REPLACE FUNCTION metering.open_accounts(tenants text[], requests text[], default_cap bigint) RETURNS TABLE (
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
    SELECT count(*), count(*) FILTER (WHERE l.state = 'held') INTO locked, alive FROM (
        SELECT r.state FROM metering.reservations AS r
        WHERE (r.tenant_id, r.request_id) IN (SELECT * FROM unnest(tenants, requests))
        ORDER BY r.tenant_id, r.request_id FOR NO KEY UPDATE
    ) AS l;
    IF alive < cardinality(requests) THEN
        PERFORM metering.lock_budgets(tenants, default_cap);
        SELECT count(*) INTO visible FROM metering.reservations AS r
        WHERE (r.tenant_id, r.request_id) IN (SELECT * FROM unnest(tenants, requests));
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
    JOIN metering.budgets AS b ON b.tenant_id = i.tenant_id AND b.scope = 'tenant' AND b.scope_id = i.tenant_id
    LEFT JOIN metering.reservations AS r ON r.tenant_id = i.tenant_id AND r.request_id = i.request_id
    LEFT JOIN LATERAL (
        SELECT array_agg(x.attempt) AS settled, sum(x.cost)::bigint AS paid
        FROM metering.settlements AS x
        WHERE r.state <> 'held' AND x.tenant_id = i.tenant_id AND x.request_id = i.request_id
    ) AS s ON true;
END $$;

-- The last act of a settlement: what requests share. Budgets are moved by what was paid and what is given back, then the
-- sums of the day grow; in this order, by key, as everywhere.
CREATE FUNCTION metering.move(tenants text[], spents bigint[], helds bigint[], usage jsonb) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM FROM metering.budgets AS b
    WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id
    ORDER BY b.tenant_id, b.scope, b.scope_id FOR NO KEY UPDATE;
    UPDATE metering.budgets AS b SET spent = b.spent + m.spent, held = b.held + m.held
    FROM unnest(tenants, spents, helds) AS m (tenant_id, spent, held)
    WHERE b.tenant_id = m.tenant_id AND b.scope = 'tenant' AND b.scope_id = m.tenant_id;
    INSERT INTO metering.usage_daily AS u (tenant_id, day, price_key, calls, input_tokens, output_tokens, cost)
    SELECT n.tenant_id, n.day, n.price_key, n.calls, n.input_tokens, n.output_tokens, n.cost
    FROM jsonb_to_recordset(usage) AS n (
        tenant_id text, day date, price_key text, calls bigint, input_tokens bigint, output_tokens bigint, cost bigint
    )
    ORDER BY n.tenant_id, n.day, n.price_key
    ON CONFLICT (tenant_id, day, price_key) DO UPDATE SET
        calls = u.calls + excluded.calls, input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens, cost = u.cost + excluded.cost;
END $$;
