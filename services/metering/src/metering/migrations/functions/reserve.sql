-- Decide a batch of reservations, one by one, in the order of the arrays: what the budget has room for is held, the rest
-- is refused. One row per item, in order. Outcomes: 'held', 'refused', 'repeated' (the request has a reservation already;
-- the row shows it, in whatever state). Amounts are nano-USD.
-- Group commit: one call serves all callers that wait, so it decides in memory between two reads and two writes, and
-- returns new reservations without reading them back.
-- `attempt_lists` has what is known already of the calls of each request; without it, nothing.
-- The first time that a budget has used `soft_limit_percent` of its cap, or refuses, it also writes a notice of that.
CREATE OR REPLACE FUNCTION metering.reserve(
    tenants text[], requests text[], amounts bigint[], leases interval[], bound_lists jsonb[],
    projects text[], keys text[], users text[], default_cap bigint,
    soft_limit_percent integer DEFAULT 80, attempt_lists jsonb[] DEFAULT NULL
) RETURNS TABLE (
    outcome text, state text, held bigint, bounds jsonb, attempts jsonb, created_at timestamptz, expires_at timestamptz,
    cap bigint, spent bigint, budget_held bigint, budget_exposed bigint
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    budget_tenants text[];
    caps bigint[];
    spent_amounts bigint[];
    held_amounts bigint[];
    exposed_amounts bigint[];
    soft_open boolean[];
    hard_open boolean[];
    existing bigint[];
    accepted boolean[] := array_fill(false, ARRAY[cardinality(tenants)]);
    budget integer;
    reserved_at timestamptz;
    limits_reached text[] := '{}';
    reached text;
    kind text;
BEGIN
    -- A client that hangs in a transaction around this blocks whole tenants: the server ends its session soon.
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    -- Missing budgets are made before any other is locked: two batches that each lack a budget which the other has made
    -- would wait for each other. This first read takes no locks.
    SELECT array_agg(b.tenant_id) INTO budget_tenants FROM metering.budgets AS b
    WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id;
    IF (tenants <@ budget_tenants) IS NOT TRUE THEN
        PERFORM metering.lock_budgets(tenants, default_cap);
    END IF;
    SELECT array_agg(l.tenant_id), array_agg(l.cap), array_agg(l.spent), array_agg(l.held), array_agg(l.exposed),
           array_agg(l.soft_limit_at IS NULL), array_agg(l.hard_limit_at IS NULL)
    INTO budget_tenants, caps, spent_amounts, held_amounts, exposed_amounts, soft_open, hard_open FROM (
        SELECT b.tenant_id, b.cap, b.spent, b.held, b.exposed, b.soft_limit_at, b.hard_limit_at FROM metering.budgets AS b
        WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id
        ORDER BY b.tenant_id, b.scope, b.scope_id FOR NO KEY UPDATE
    ) AS l;
    -- From here on no other transaction reserves for these tenants, and each statement sees all that was committed before.
    reserved_at := clock_timestamp();
    SELECT coalesce(array_agg(i.ordinal), '{}') INTO existing FROM (
        SELECT u.*, row_number() OVER (PARTITION BY u.tenant_id, u.request_id ORDER BY u.ordinal) AS occurrence
        FROM unnest(tenants, requests) WITH ORDINALITY AS u (tenant_id, request_id, ordinal)
    ) AS i
    WHERE i.occurrence > 1 OR (
        SELECT true FROM metering.reservations AS r WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id
    );
    FOR item IN 1 .. cardinality(tenants) LOOP
        budget := array_position(budget_tenants, tenants[item]);
        IF amounts[item] <= caps[budget] - spent_amounts[budget] - held_amounts[budget] - exposed_amounts[budget]
            AND item <> ALL (existing)
        THEN
            held_amounts[budget] := held_amounts[budget] + amounts[item];
            accepted[item] := true;
        ELSIF hard_open[budget] AND item <> ALL (existing) THEN
            hard_open[budget] := false;
            limits_reached := limits_reached || format('%s hard', budget);
        END IF;
    END LOOP;
    FOR budget IN 1 .. cardinality(budget_tenants) LOOP
        IF soft_open[budget] AND caps[budget] > 0
            AND spent_amounts[budget]::numeric + held_amounts[budget] + exposed_amounts[budget]
                >= caps[budget]::numeric * soft_limit_percent / 100
        THEN
            limits_reached := limits_reached || format('%s soft', budget);
        END IF;
    END LOOP;

    IF true = ANY (accepted) THEN
        INSERT INTO metering.reservations
            (tenant_id, request_id, state, held, bounds, attempts, project_id, key_id, user_id, created_at, expires_at)
        SELECT i.tenant_id, i.request_id, 'held', i.amount, i.bounds, coalesce(i.attempts, '[]'), i.project_id, i.key_id,
               i.user_id, reserved_at, reserved_at + i.lease
        FROM unnest(tenants, requests, amounts, leases, bound_lists, attempt_lists, projects, keys, users, accepted)
            AS i (tenant_id, request_id, amount, lease, bounds, attempts, project_id, key_id, user_id, accepted)
        WHERE i.accepted;
        UPDATE metering.budgets AS b SET held = held_amounts[array_position(budget_tenants, b.tenant_id)]
        WHERE b.tenant_id = ANY (budget_tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id
            AND b.held <> held_amounts[array_position(budget_tenants, b.tenant_id)];
    END IF;

    FOREACH reached IN ARRAY limits_reached LOOP
        budget := split_part(reached, ' ', 1)::integer;
        kind := split_part(reached, ' ', 2);
        INSERT INTO metering.budget_notices (tenant_id, limit_kind, percent, cap, spent, held, exposed, created_at)
        VALUES (budget_tenants[budget], kind, CASE kind WHEN 'soft' THEN soft_limit_percent ELSE 100 END, caps[budget],
                spent_amounts[budget], held_amounts[budget], exposed_amounts[budget], reserved_at);
        UPDATE metering.budgets AS b SET
            soft_limit_at = CASE kind WHEN 'soft' THEN reserved_at ELSE b.soft_limit_at END,
            hard_limit_at = CASE kind WHEN 'hard' THEN reserved_at ELSE b.hard_limit_at END
        WHERE b.tenant_id = budget_tenants[budget] AND b.scope = 'tenant' AND b.scope_id = b.tenant_id;
    END LOOP;

    FOR item IN 1 .. cardinality(tenants) LOOP
        budget := array_position(budget_tenants, tenants[item]);
        cap := caps[budget];
        spent := spent_amounts[budget];
        budget_held := held_amounts[budget];
        budget_exposed := exposed_amounts[budget];
        IF accepted[item] THEN
            outcome := 'held';
            state := 'held';
            held := amounts[item];
            bounds := bound_lists[item];
            created_at := reserved_at;
            expires_at := reserved_at + leases[item];
        ELSE
            SELECT 'repeated', r.state, r.held, r.bounds, r.attempts, r.created_at, r.expires_at
            INTO outcome, state, held, bounds, attempts, created_at, expires_at FROM metering.reservations AS r
            WHERE r.tenant_id = tenants[item] AND r.request_id = requests[item];
            outcome := coalesce(outcome, 'refused');
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
