-- Settle requests that got an answer of the cache and hold its price. Those that hold another price, or nothing any more,
-- are left as they are. Returns the places of the others in the arrays, from 1, and what each of them held.
-- `answers` names the row of `settled` that each request gets; a row has the number of its answer, from 0.
-- It locks reservations by key and no budget: metering.finish_settlement does (the lock order is in lock_budgets.sql).
CREATE OR REPLACE FUNCTION metering.settle_held_hits(
    tenants text[], requests text[], events text[], answers integer[], transactions text[], settled jsonb
) RETURNS TABLE (settled_at timestamptz, places integer[], held_amounts bigint[]) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    at timestamptz;
    kept_places integer[];
    kept_held bigint[];
    closing record;
BEGIN
    PERFORM metering.configure_transaction();
    SELECT array_agg(l.place), array_agg(l.held) INTO kept_places, kept_held FROM (
        SELECT i.place, i.answer, r.state, r.held, r.bounds, r.attempts
        FROM (
            SELECT DISTINCT ON (u.tenant_id, u.request_id) u.tenant_id, u.request_id, u.answer, u.place::integer AS place
            FROM unnest(tenants, requests, answers) WITH ORDINALITY AS u (tenant_id, request_id, answer, place)
            ORDER BY u.tenant_id, u.request_id, u.place
        ) AS i
        CROSS JOIN LATERAL (
            SELECT * FROM metering.reservations AS r
            WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id FOR NO KEY UPDATE
        ) AS r
    ) AS l
    JOIN jsonb_to_recordset(settled) AS n (
        answer integer, attempt integer, price_key text, price_version text, input_tokens bigint, output_tokens bigint,
        cost bigint
    ) ON n.answer = l.answer
    WHERE l.state = 'held' AND l.held >= n.cost AND jsonb_array_length(l.bounds) = 1
        AND l.bounds -> 0 ->> 'price_key' = n.price_key AND l.bounds -> 0 ->> 'version' = n.price_version
        AND (l.bounds -> 0 ->> 'input_tokens')::bigint = n.input_tokens
        AND (l.bounds -> 0 ->> 'output_tokens')::bigint = n.output_tokens
        AND (l.attempts = '[]' OR (jsonb_array_length(l.attempts) = 1 AND l.attempts -> 0 ->> 'attempt' = n.attempt::text));
    at := clock_timestamp();
    IF kept_places IS NULL THEN
        RETURN QUERY SELECT at, '{}'::integer[], '{}'::bigint[];
        RETURN;
    END IF;

    INSERT INTO metering.settlements (
        tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens, price_key, price_version,
        cost, exposed, event_id, settled_at, cache, saved, input_cost, classes
    )
    SELECT tenants[p], requests[p], n.attempt, n.outcome, n.usage_source, n.input_tokens, n.output_tokens, n.price_key,
           n.price_version, n.cost, 0, events[p], at, n.cache, n.saved, n.input_cost, n.classes
    FROM unnest(kept_places) AS p JOIN jsonb_to_recordset(settled) AS n (
        answer integer, attempt integer, outcome text, usage_source text, input_tokens bigint, output_tokens bigint,
        price_key text, price_version text, cost bigint, cache text, saved bigint, input_cost bigint, classes jsonb
    ) ON n.answer = answers[p];
    INSERT INTO metering.ledger_transactions (tenant_id, transaction_id, request_id, attempt, kind, created_at)
    SELECT tenants[p], transactions[p], requests[p], n.attempt, 'settlement', at
    FROM unnest(kept_places) AS p
    JOIN jsonb_to_recordset(settled) AS n (answer integer, attempt integer) ON n.answer = answers[p];
    INSERT INTO metering.ledger_entries (tenant_id, transaction_id, line, account, amount, price_version, created_at)
    SELECT tenants[p], transactions[p], e.line, e.account, e.sign * n.cost, n.price_version, at
    FROM unnest(kept_places) AS p
    JOIN jsonb_to_recordset(settled) AS n (answer integer, price_version text, cost bigint) ON n.answer = answers[p]
    CROSS JOIN (VALUES (1::smallint, 'receivable', 1), (2::smallint, 'revenue', -1)) AS e (line, account, sign);
    FOR closing IN
        SELECT tenants[p] AS tenant_id, array_agg(requests[p]) AS requests FROM unnest(kept_places) AS p GROUP BY 1
    LOOP
        UPDATE metering.reservations AS r SET state = 'settled', closed_at = now()
        WHERE r.tenant_id = closing.tenant_id AND r.request_id = ANY (closing.requests);
    END LOOP;
    RETURN QUERY SELECT at, kept_places, kept_held;
END $$;
