-- The last statement of a settlement. It closes reservations, which are locked already, and then changes what requests
-- share: it adjusts budgets by what was paid, what is no longer held and what is exposed, and adds to usage_daily,
-- usage_classes_daily, cache_daily and right_sizing_daily; in this order and by key, as the lock order asks.
CREATE OR REPLACE FUNCTION metering.finish_settlement(
    closures jsonb, tenants text[], spent_amounts bigint[], held_amounts bigint[], exposed_amounts bigint[], usage jsonb,
    cache jsonb DEFAULT '[]', right_sizing jsonb DEFAULT '[]'
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
        spent = b.spent + spent_amounts[array_position(tenants, b.tenant_id)],
        held = b.held + held_amounts[array_position(tenants, b.tenant_id)],
        exposed = b.exposed + exposed_amounts[array_position(tenants, b.tenant_id)]
    WHERE b.tenant_id = ANY (tenants) AND b.scope = 'tenant' AND b.scope_id = b.tenant_id;
    INSERT INTO metering.usage_daily AS u
        (tenant_id, day, price_key, calls, input_tokens, output_tokens, cost, cache_hits, saved,
         right_sizing_saved, classed_input_tokens, classed_output_tokens, input_cost, output_cost)
    SELECT n.tenant_id, n.day, n.price_key, n.calls, n.input_tokens, n.output_tokens, n.cost,
           coalesce(n.cache_hits, 0), coalesce(n.saved, 0), coalesce(n.right_sizing_saved, 0),
           coalesce(n.classed_input_tokens, 0), coalesce(n.classed_output_tokens, 0),
           coalesce(n.input_cost, 0), coalesce(n.output_cost, 0)
    FROM jsonb_to_recordset(usage) AS n (
        tenant_id text, day date, price_key text, calls bigint, input_tokens bigint, output_tokens bigint, cost bigint,
        cache_hits bigint, saved bigint, right_sizing_saved bigint, classed_input_tokens bigint,
        classed_output_tokens bigint, input_cost bigint, output_cost bigint
    )
    ORDER BY n.tenant_id, n.day, n.price_key
    ON CONFLICT (tenant_id, day, price_key) DO UPDATE SET
        calls = u.calls + excluded.calls, input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens, cost = u.cost + excluded.cost,
        cache_hits = u.cache_hits + excluded.cache_hits, saved = u.saved + excluded.saved,
        right_sizing_saved = u.right_sizing_saved + excluded.right_sizing_saved,
        classed_input_tokens = u.classed_input_tokens + excluded.classed_input_tokens,
        classed_output_tokens = u.classed_output_tokens + excluded.classed_output_tokens,
        input_cost = u.input_cost + excluded.input_cost, output_cost = u.output_cost + excluded.output_cost;
    -- Most calls have tokens of text only.
    IF jsonb_path_exists(usage, '$[*].classes') THEN
        INSERT INTO metering.usage_classes_daily AS u (tenant_id, day, price_key, class, tokens, cost)
        SELECT n.tenant_id, n.day, n.price_key, c.key, (c.value ->> 0)::bigint, (c.value ->> 1)::bigint
        FROM jsonb_to_recordset(usage) AS n (tenant_id text, day date, price_key text, classes jsonb)
        CROSS JOIN LATERAL jsonb_each(n.classes) AS c
        ORDER BY n.tenant_id, n.day, n.price_key, c.key
        ON CONFLICT (tenant_id, day, price_key, class) DO UPDATE SET
            tokens = u.tokens + excluded.tokens, cost = u.cost + excluded.cost;
    END IF;
    INSERT INTO metering.cache_daily AS c
        (tenant_id, day, model, lookups, hits, semantic_hits, stale_hits, cost, saved)
    SELECT n.* FROM jsonb_to_recordset(cache) AS n (
        tenant_id text, day date, model text, lookups bigint, hits bigint, semantic_hits bigint, stale_hits bigint,
        cost bigint, saved bigint
    )
    ORDER BY n.tenant_id, n.day, n.model
    ON CONFLICT (tenant_id, day, model) DO UPDATE SET
        lookups = c.lookups + excluded.lookups, hits = c.hits + excluded.hits,
        semantic_hits = c.semantic_hits + excluded.semantic_hits, stale_hits = c.stale_hits + excluded.stale_hits,
        cost = c.cost + excluded.cost, saved = c.saved + excluded.saved;
    INSERT INTO metering.right_sizing_daily AS s (tenant_id, day, model, requests, answered, cost, saved)
    SELECT n.* FROM jsonb_to_recordset(right_sizing) AS n (
        tenant_id text, day date, model text, requests bigint, answered bigint, cost bigint, saved bigint
    )
    ORDER BY n.tenant_id, n.day, n.model
    ON CONFLICT (tenant_id, day, model) DO UPDATE SET
        requests = s.requests + excluded.requests, answered = s.answered + excluded.answered,
        cost = s.cost + excluded.cost, saved = s.saved + excluded.saved;
END $$;
