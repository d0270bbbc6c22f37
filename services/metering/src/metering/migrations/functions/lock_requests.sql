-- The three doors to the books. Lock order, everywhere: rows of reservations first (by key, or SKIP LOCKED), then budgets
-- (by key); whoever holds a budget waits for no reservation. So no two of them wait for each other.

-- How these transactions run, to their end. A client that freezes inside one is thrown out soon: its locks stop whole
-- tenants. Rows are reached by key only: a plan made and cached while the tables were small would scan them all later on.
CREATE FUNCTION metering.begin_by_key() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL idle_in_transaction_session_timeout = '5s';
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
END $$;

CREATE FUNCTION metering.lock_budgets(tenants text[], default_cap bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO metering.budgets (tenant_id, scope, scope_id, cap)
    SELECT DISTINCT t, 'tenant', t, default_cap FROM unnest(tenants) AS t
    WHERE NOT EXISTS (
        SELECT FROM metering.budgets AS b WHERE b.tenant_id = t AND b.scope = 'tenant' AND b.scope_id = t
    )
    ORDER BY t
    ON CONFLICT DO NOTHING;
    PERFORM FROM metering.budgets AS b WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant'
    ORDER BY b.tenant_id, b.scope, b.scope_id FOR NO KEY UPDATE;
END $$;

-- Decide many reservations at once, each for itself, in the order of the arrays: what fits is held, the rest is
-- refused. One row per item, in order. Outcomes: 'held', 'refused', 'repeated' (this request has a reservation: here
-- it is, in whatever state). Amounts are nano-USD.
CREATE FUNCTION metering.reserve(
    tenants text[], requests text[], amounts bigint[], leases interval[], bound_lists jsonb[],
    projects text[], keys text[], users text[], default_cap bigint
) RETURNS TABLE (
    outcome text, state text, held bigint, bounds jsonb, created_at timestamptz, expires_at timestamptz,
    cap bigint, spent bigint, budget_held bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    item record;
    tenant text;
    free bigint;
    accepted bigint[] := '{}';
    made_at timestamptz;
BEGIN
    PERFORM metering.begin_by_key();
    PERFORM metering.lock_budgets(tenants, default_cap);
    -- From here on nobody else reserves for these tenants, and each statement sees what was committed before it.
    made_at := clock_timestamp();
    FOR item IN
        SELECT i.ordinal, i.tenant_id, i.amount, b.cap - b.spent - b.held AS free
        FROM (
            SELECT DISTINCT ON (u.tenant_id, u.request_id) u.*
            FROM unnest(tenants, requests, amounts) WITH ORDINALITY AS u (tenant_id, request_id, amount, ordinal)
            ORDER BY u.tenant_id, u.request_id, u.ordinal
        ) AS i
        JOIN metering.budgets AS b ON b.tenant_id = i.tenant_id AND b.scope = 'tenant' AND b.scope_id = i.tenant_id
        WHERE NOT EXISTS (
            SELECT FROM metering.reservations AS r WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
        )
        ORDER BY i.tenant_id, i.ordinal
    LOOP
        IF item.tenant_id IS DISTINCT FROM tenant THEN
            tenant := item.tenant_id;
            free := item.free;
        END IF;
        IF item.amount <= free THEN
            free := free - item.amount;
            accepted := accepted || item.ordinal;
        END IF;
    END LOOP;

    INSERT INTO metering.reservations
        (tenant_id, request_id, state, held, bounds, project_id, key_id, user_id, created_at, expires_at)
    SELECT i.tenant_id, i.request_id, 'held', i.amount, i.bounds, i.project_id, i.key_id, i.user_id,
           made_at, made_at + i.lease
    FROM unnest(tenants, requests, amounts, leases, bound_lists, projects, keys, users) WITH ORDINALITY
        AS i (tenant_id, request_id, amount, lease, bounds, project_id, key_id, user_id, ordinal)
    WHERE i.ordinal = ANY (accepted);

    UPDATE metering.budgets AS b SET held = b.held + h.amount
    FROM (
        SELECT i.tenant_id, sum(i.amount)::bigint AS amount
        FROM unnest(tenants, amounts) WITH ORDINALITY AS i (tenant_id, amount, ordinal)
        WHERE i.ordinal = ANY (accepted) GROUP BY i.tenant_id
    ) AS h
    WHERE b.tenant_id = h.tenant_id AND b.scope = 'tenant' AND b.scope_id = h.tenant_id AND h.amount <> 0;

    RETURN QUERY
    SELECT CASE WHEN r.request_id IS NULL THEN 'refused' WHEN i.ordinal = ANY (accepted) THEN 'held' ELSE 'repeated' END,
           r.state, r.held, r.bounds, r.created_at, r.expires_at, b.cap, b.spent, b.held
    FROM unnest(tenants, requests) WITH ORDINALITY AS i (tenant_id, request_id, ordinal)
    JOIN metering.budgets AS b ON b.tenant_id = i.tenant_id AND b.scope = 'tenant' AND b.scope_id = i.tenant_id
    LEFT JOIN metering.reservations AS r ON r.tenant_id = i.tenant_id AND r.request_id = i.request_id
    ORDER BY i.ordinal;
END $$;

-- Lock what usage events are about to change, and show it: one row per distinct request. `state` is null for a request
-- that never reserved; `settled` are the attempts that are in the books, `paid` what they cost the tenant.
CREATE FUNCTION metering.open_accounts(tenants text[], requests text[], default_cap bigint) RETURNS TABLE (
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
    PERFORM FROM metering.reservations AS r
    WHERE (r.tenant_id, r.request_id) IN (SELECT * FROM unnest(tenants, requests))
    ORDER BY r.tenant_id, r.request_id FOR NO KEY UPDATE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    PERFORM metering.lock_budgets(tenants, default_cap);
    SELECT count(*) INTO visible FROM metering.reservations AS r
    WHERE (r.tenant_id, r.request_id) IN (SELECT * FROM unnest(tenants, requests));
    IF visible <> locked THEN
        -- One came into being between the two locks. Taking its lock now would break the order above: come back.
        RAISE EXCEPTION 'a reservation was made meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;

    opened_at := clock_timestamp();
    RETURN QUERY
    SELECT i.tenant_id, i.request_id, r.state, r.held, r.bounds, r.created_at, r.expires_at, s.settled, s.paid,
           b.cap, b.spent, b.held, opened_at
    FROM (SELECT DISTINCT u.tenant_id, u.request_id FROM unnest(tenants, requests) AS u (tenant_id, request_id)) AS i
    JOIN metering.budgets AS b ON b.tenant_id = i.tenant_id AND b.scope = 'tenant' AND b.scope_id = i.tenant_id
    LEFT JOIN metering.reservations AS r ON r.tenant_id = i.tenant_id AND r.request_id = i.request_id
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(x.attempt), '{}') AS settled, coalesce(sum(x.cost), 0)::bigint AS paid
        FROM metering.settlements AS x WHERE x.tenant_id = i.tenant_id AND x.request_id = i.request_id
    ) AS s;
END $$;

-- The same for at most `most` holds whose lease ran out, by the clock of the database. Replicas that sweep at the same
-- time take different ones.
CREATE FUNCTION metering.open_overdue(most integer, default_cap bigint) RETURNS TABLE (
    tenant_id text, request_id text, state text, held bigint, bounds jsonb, created_at timestamptz,
    expires_at timestamptz, settled integer[], paid bigint, cap bigint, spent bigint, budget_held bigint,
    opened_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    tenants text[];
    requests text[];
BEGIN
    SELECT array_agg(o.tenant_id), array_agg(o.request_id) INTO tenants, requests FROM (
        SELECT r.tenant_id, r.request_id FROM metering.reservations AS r
        WHERE r.state = 'held' AND r.expires_at <= clock_timestamp()
        ORDER BY r.expires_at LIMIT most FOR NO KEY UPDATE SKIP LOCKED
    ) AS o;
    IF tenants IS NOT NULL THEN
        RETURN QUERY SELECT * FROM metering.open_accounts(tenants, requests, default_cap);
    END IF;
END $$;
