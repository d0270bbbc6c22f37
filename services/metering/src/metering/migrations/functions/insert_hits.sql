-- Settle requests that reserved nothing and for which their tenants pay nothing: they got an answer of the cache. Those
-- that metering has on record already are left as they are. Returns the places of the others in the arrays, from 1.
-- `answers` names the row of `settled` that each request gets; a row has the number of its answer, from 0.
-- It locks no budget. New reservations are made by key, as the lock order asks (lock_budgets.sql).
CREATE OR REPLACE FUNCTION metering.insert_hits(
    tenants text[], requests text[], projects text[], keys text[], events text[], answers integer[], settled jsonb
) RETURNS TABLE (inserted_at timestamptz, places integer[]) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    PERFORM metering.configure_transaction();
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT ON (u.tenant_id, u.request_id) u.*
        FROM unnest(tenants, requests, projects, keys, events, answers) WITH ORDINALITY
            AS u (tenant_id, request_id, project_id, key_id, event_id, answer, place)
        ORDER BY u.tenant_id, u.request_id, u.place
    ), made AS (
        INSERT INTO metering.reservations
            (tenant_id, request_id, state, held, bounds, project_id, key_id, created_at, expires_at, closed_at)
        SELECT a.tenant_id, a.request_id, 'settled', 0, '[]', a.project_id, a.key_id, at, at, at
        FROM asked AS a ORDER BY a.tenant_id, a.request_id
        ON CONFLICT (tenant_id, request_id) DO NOTHING
        RETURNING tenant_id, request_id
    ), fresh AS (
        SELECT a.* FROM asked AS a JOIN made AS m ON m.tenant_id = a.tenant_id AND m.request_id = a.request_id
    ), kept AS (
        INSERT INTO metering.settlements (
            tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens, price_key,
            price_version, cost, exposed, event_id, settled_at, cache, saved, input_cost, classes
        )
        SELECT f.tenant_id, f.request_id, n.attempt, n.outcome, n.usage_source, n.input_tokens, n.output_tokens,
               n.price_key, n.price_version, 0, 0, f.event_id, at, n.cache, n.saved, n.input_cost, n.classes
        FROM fresh AS f JOIN jsonb_to_recordset(settled) AS n (
            answer integer, attempt integer, outcome text, usage_source text, input_tokens bigint,
            output_tokens bigint, price_key text, price_version text, cache text, saved bigint, input_cost bigint,
            classes jsonb
        ) ON n.answer = f.answer
    )
    SELECT at, array_agg(f.place::integer) FROM fresh AS f;
END $$;
