-- A budget that has to be made is made before any other is locked: two batches that need each other's would wait for ever.
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
