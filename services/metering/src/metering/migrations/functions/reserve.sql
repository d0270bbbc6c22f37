-- The doors of 0003 with fewer statements behind them. None joins what is asked for with a table: whatever is switched
-- off, a plan that is made and cached while the table is small may prefer to read all of its index. Each statement names
-- the keys of one table, or asks for them row by row in a subquery that cannot be turned into a join (a scalar, a lock,
-- OFFSET 0).

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

-- Decided in memory between one look and two writes; what is fresh is answered without reading it back. A budget that has
-- to be made is made before any other is locked: two batches that need each other's would wait for ever.
CREATE OR REPLACE FUNCTION metering.reserve(
    tenants text[], requests text[], amounts bigint[], leases interval[], bound_lists jsonb[],
    projects text[], keys text[], users text[], default_cap bigint
) RETURNS TABLE (
    outcome text, state text, held bigint, bounds jsonb, created_at timestamptz, expires_at timestamptz,
    cap bigint, spent bigint, budget_held bigint
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    owners text[];
    caps bigint[];
    spents bigint[];
    helds bigint[];
    known bigint[];
    accepted boolean[] := array_fill(false, ARRAY[cardinality(tenants)]);
    place integer;
    made_at timestamptz;
BEGIN
    -- A client that freezes in a transaction around this is thrown out soon: its locks stop whole tenants.
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    -- A look without locks.
    SELECT array_agg(b.tenant_id) INTO owners FROM metering.budgets AS b
    WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id;
    IF (tenants <@ owners) IS NOT TRUE THEN
        PERFORM metering.lock_budgets(tenants, default_cap);
    END IF;
    SELECT array_agg(l.tenant_id), array_agg(l.cap), array_agg(l.spent), array_agg(l.held)
    INTO owners, caps, spents, helds FROM (
        SELECT b.tenant_id, b.cap, b.spent, b.held FROM metering.budgets AS b
        WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id
        ORDER BY b.tenant_id, b.scope, b.scope_id FOR NO KEY UPDATE
    ) AS l;
    -- From here on nobody else reserves for these tenants, and each statement sees what was committed before it.
    made_at := clock_timestamp();
    SELECT coalesce(array_agg(i.ordinal), '{}') INTO known FROM (
        SELECT u.*, row_number() OVER (PARTITION BY u.tenant_id, u.request_id ORDER BY u.ordinal) AS nth
        FROM unnest(tenants, requests) WITH ORDINALITY AS u (tenant_id, request_id, ordinal)
    ) AS i
    WHERE i.nth > 1 OR (
        SELECT true FROM metering.reservations AS r WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
    );
    FOR item IN 1 .. cardinality(tenants) LOOP
        place := array_position(owners, tenants[item]);
        IF amounts[item] <= caps[place] - spents[place] - helds[place] AND item <> ALL (known) THEN
            helds[place] := helds[place] + amounts[item];
            accepted[item] := true;
        END IF;
    END LOOP;

    IF true = ANY (accepted) THEN
        INSERT INTO metering.reservations
            (tenant_id, request_id, state, held, bounds, project_id, key_id, user_id, created_at, expires_at)
        SELECT i.tenant_id, i.request_id, 'held', i.amount, i.bounds, i.project_id, i.key_id, i.user_id,
               made_at, made_at + i.lease
        FROM unnest(tenants, requests, amounts, leases, bound_lists, projects, keys, users, accepted)
            AS i (tenant_id, request_id, amount, lease, bounds, project_id, key_id, user_id, accepted)
        WHERE i.accepted;
        UPDATE metering.budgets AS b SET held = helds[array_position(owners, b.tenant_id)]
        WHERE b.tenant_id = ANY (owners) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id
            AND b.held <> helds[array_position(owners, b.tenant_id)];
    END IF;

    FOR item IN 1 .. cardinality(tenants) LOOP
        place := array_position(owners, tenants[item]);
        cap := caps[place];
        spent := spents[place];
        budget_held := helds[place];
        IF accepted[item] THEN
            outcome := 'held';
            state := 'held';
            held := amounts[item];
            bounds := bound_lists[item];
            created_at := made_at;
            expires_at := made_at + leases[item];
        ELSE
            SELECT 'repeated', r.state, r.held, r.bounds, r.created_at, r.expires_at
            INTO outcome, state, held, bounds, created_at, expires_at FROM metering.reservations AS r
            WHERE r.tenant_id = tenants[item] AND r.request_id = requests[item];
            outcome := coalesce(outcome, 'refused');
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Budgets are locked here only where the answer depends on them: for requests that are not held (any more) or come twice. A
-- held request pays for itself, so its budget is moved by metering.close_and_move at the end of the transaction, and nobody
-- who reserves has to wait for the rest of it. What is held has no settlements yet.
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

-- The same with every budget locked, as metering.open_overdue opens what it sweeps.
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

-- The last act of a settlement: closes the reservations, which are locked already; then comes what requests share. Budgets
-- are moved by what was paid and what is given back, then the sums of the day grow; in this order, by key, as everywhere.
CREATE FUNCTION metering.close_and_move(closures jsonb, tenants text[], spents bigint[], helds bigint[], usage jsonb)
RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    closing record;
BEGIN
    FOR closing IN
        SELECT c.tenant_id, c.state, array_agg(c.request_id) AS requests
        FROM jsonb_to_recordset(closures) AS c (tenant_id text, request_id text, state text) GROUP BY 1, 2
    LOOP
        UPDATE metering.reservations AS r SET state = closing.state, closed_at = now()
        WHERE r.tenant_id = closing.tenant_id AND r.request_id = ANY (closing.requests);
    END LOOP;
    PERFORM FROM metering.budgets AS b
    WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id
    ORDER BY b.tenant_id, b.scope, b.scope_id FOR NO KEY UPDATE;
    UPDATE metering.budgets AS b SET
        spent = b.spent + spents[array_position(tenants, b.tenant_id)],
        held = b.held + helds[array_position(tenants, b.tenant_id)]
    WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id;
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

-- The audit reads the youngest entries by this index; what it has not summarized yet is read whole each time.
ALTER INDEX metering.ledger_entries_by_time SET (autosummarize = on);
