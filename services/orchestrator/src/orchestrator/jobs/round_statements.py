"""The SQL of dispatches. Each statement is a transaction; for the order of locks see `statements`."""

# Where very many tenants wait, a round looks at those served longest ago, in each lane at some times more than it has
# places for: with all of many thousands it would take too long. The number of heads follows from the free places: more
# than a fair share of them, so that unequal costs even out.
#
# A job that has crashed twice is a suspect: one of them at a time is in flight in a pool, so that the death of a worker
# quarantines one job at most, and not the innocent jobs beside it. A claim counts as a crash until the run ends.
WAITING = """
WITH live AS MATERIALIZED (
    SELECT w.pool, sum(w.slots)::integer AS slots FROM job_workers AS w
    WHERE w.seen_at > now() - interval '15 seconds' GROUP BY w.pool
), queues AS MATERIALIZED (
    SELECT q.* FROM tenant_queues AS q JOIN live USING (pool)
), load AS MATERIALIZED (
    SELECT live.pool, live.slots, 2 * live.slots - coalesce(sum(q.dispatched + q.running), 0) AS free,
        coalesce(sum(q.dispatched + q.running) FILTER (WHERE q.lane = 'interactive'), 0)::integer AS interactive,
        coalesce(sum(q.dispatched + q.running) FILTER (WHERE q.lane = 'standard'), 0)::integer AS standard,
        coalesce(sum(q.dispatched + q.running) FILTER (WHERE q.lane = 'batch'), 0)::integer AS batch,
        count(*) FILTER (WHERE q.queued > 0) AS backlogged
    FROM live LEFT JOIN queues AS q USING (pool) GROUP BY live.pool, live.slots
), suspects AS MATERIALIZED (
    SELECT load.pool, next.tenant_id, next.job_id FROM load CROSS JOIN LATERAL (
        SELECT j.tenant_id, j.job_id FROM jobs AS j
        WHERE j.crashes >= 2 AND j.pool = load.pool AND j.state = 'queued' AND j.due_at <= now() AND NOT EXISTS (
            SELECT FROM queue_pauses AS p
            WHERE p.tenant_id IN ('*', j.tenant_id) AND p.pool IN ('', j.pool) AND p.model IN ('', j.model)
        )
        ORDER BY j.due_at, j.job_id LIMIT 1
    ) AS next
    WHERE NOT EXISTS (
        SELECT FROM jobs AS j WHERE j.crashes >= 2 AND j.pool = load.pool
            AND (j.state = 'dispatched' OR (j.state = 'running' AND j.crashes > 2))
    )
), backlog AS MATERIALIZED (
    SELECT q.*, row_number() OVER (PARTITION BY q.pool, q.lane ORDER BY q.served_round, q.tenant_id) AS turn
    FROM queues AS q JOIN load USING (pool)
    WHERE q.queued > 0 AND load.free > 0 AND NOT EXISTS (
        SELECT FROM queue_pauses AS p
        WHERE p.tenant_id IN ('*', q.tenant_id) AND p.pool IN ('', q.pool) AND p.model = ''
    )
)
SELECT load.pool, load.slots, load.interactive, load.standard, load.batch, coalesce(r.round, 0) AS round,
    r.interactive_at, r.standard_at, r.batch_at, q.lane, q.tenant_id, q.queued, q.deficit, now() AS now,
    heads.job_ids, heads.epochs, heads.costs, heads.due_at, heads.wanted
FROM load JOIN backlog AS q ON q.pool = load.pool AND q.turn <= greatest(32, 4 * load.free)
LEFT JOIN job_rounds AS r ON r.tenant_id = '*' AND r.pool = load.pool
CROSS JOIN LATERAL (
    SELECT greatest(
        4, least(load.free, 4 * load.free / least(load.backlogged, greatest(32, 4 * load.free)))
    )::integer AS wanted
) AS share
CROSS JOIN LATERAL (
    SELECT share.wanted, array_agg(h.job_id ORDER BY h.due_at, h.job_id) AS job_ids,
        array_agg(h.epoch ORDER BY h.due_at, h.job_id) AS epochs,
        array_agg(h.cost_tokens ORDER BY h.due_at, h.job_id) AS costs, min(h.due_at) AS due_at
    FROM (
        SELECT j.job_id, j.epoch, j.cost_tokens, j.due_at FROM jobs AS j
        WHERE j.pool = q.pool AND j.lane = q.lane AND j.tenant_id = q.tenant_id AND j.state = 'queued'
            AND j.due_at <= now() AND NOT EXISTS (
                SELECT FROM queue_pauses AS p
                WHERE p.tenant_id IN ('*', j.tenant_id) AND p.pool IN ('', j.pool) AND p.model = j.model
            ) AND (
                j.crashes < 2
                OR (j.pool, j.tenant_id, j.job_id) IN (SELECT s.pool, s.tenant_id, s.job_id FROM suspects AS s)
            )
        ORDER BY j.due_at, j.job_id LIMIT share.wanted + 1
    ) AS h
) AS heads
WHERE heads.job_ids IS NOT NULL
"""

DISPATCH = """
WITH written AS (
    INSERT INTO job_rounds AS r (tenant_id, pool, round, interactive_at, standard_at, batch_at)
    SELECT '*', $1::text, $2::bigint + 1, CASE WHEN 'interactive' = ANY ($3::text[]) THEN now() END,
        CASE WHEN 'standard' = ANY ($3) THEN now() END, CASE WHEN 'batch' = ANY ($3) THEN now() END
    ON CONFLICT (tenant_id, pool) DO UPDATE SET
        round = r.round + 1,
        interactive_at = coalesce(excluded.interactive_at, r.interactive_at),
        standard_at = coalesce(excluded.standard_at, r.standard_at),
        batch_at = coalesce(excluded.batch_at, r.batch_at)
    WHERE r.round = $2
    RETURNING 1
), free AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, j.due_at, asked.place
    FROM unnest($4::text[], $5::text[], $6::bigint[]) WITH ORDINALITY AS asked (tenant_id, job_id, epoch, place)
    JOIN jobs AS j USING (tenant_id, job_id)
    WHERE j.state = 'queued' AND j.epoch = asked.epoch AND EXISTS (SELECT FROM written)
    FOR UPDATE OF j SKIP LOCKED
), sent AS (
    UPDATE jobs AS j SET state = 'dispatched', state_reason = '', epoch = j.epoch + 1, due_at = now() + $7::interval,
        dispatched_at = now()
    FROM free WHERE j.tenant_id = free.tenant_id AND j.job_id = free.job_id
    RETURNING j.tenant_id, j.job_id, j.pool, j.lane, j.epoch, j.cost_tokens, free.place, now() - free.due_at AS waited
), credited AS (
    SELECT * FROM unnest($8::text[], $9::text[], $10::bigint[]) AS c (tenant_id, lane, deficit)
    WHERE EXISTS (SELECT FROM written)
), changed AS (
    SELECT coalesce(s.tenant_id, c.tenant_id) AS tenant_id, coalesce(s.lane, c.lane) AS lane,
        coalesce(s.jobs, 0) AS jobs, coalesce(s.tokens, 0) AS tokens, c.deficit
    FROM (
        SELECT tenant_id, lane, count(*) AS jobs, sum(cost_tokens) AS tokens FROM sent GROUP BY tenant_id, lane
    ) AS s FULL JOIN credited AS c USING (tenant_id, lane)
), counted AS (
    INSERT INTO tenant_queues AS q (tenant_id, pool, lane, queued, queued_tokens, dispatched, deficit, served_round)
    SELECT c.tenant_id, $1, c.lane, -c.jobs, -c.tokens, c.jobs, coalesce(c.deficit, t.deficit, 0),
        CASE WHEN c.jobs > 0 THEN $2 + 1 ELSE coalesce(t.served_round, 0) END
    FROM changed AS c LEFT JOIN tenant_queues AS t ON (t.tenant_id, t.pool, t.lane) = (c.tenant_id, $1, c.lane)
    ORDER BY c.tenant_id, c.lane
    ON CONFLICT (tenant_id, pool, lane) DO UPDATE SET
        queued = q.queued + excluded.queued, queued_tokens = q.queued_tokens + excluded.queued_tokens,
        dispatched = q.dispatched + excluded.dispatched, deficit = excluded.deficit,
        served_round = excluded.served_round
), events AS (
    INSERT INTO outbox (tenant_id, id, topic, value, headers)
    SELECT sent.tenant_id, e.id, e.topic, e.value, e.headers::jsonb
    FROM unnest($11::text[], $12::text[], $13::bytea[], $14::text[]) WITH ORDINALITY
        AS e (id, topic, value, headers, place)
    JOIN sent USING (place)
)
SELECT EXISTS (SELECT FROM written) AS written, s.tenant_id, s.job_id, s.epoch, s.lane, s.waited
FROM (SELECT) AS one LEFT JOIN sent AS s ON true
"""

# Jobs that came back once from a worker that died go out at once, beside the shares of lanes and tenants: they had
# their turn. Of them, as many are on their way as the pool has slots.
RETURNED = """
WITH live AS MATERIALIZED (
    SELECT w.pool, sum(w.slots)::integer AS slots FROM job_workers AS w
    WHERE w.seen_at > now() - interval '15 seconds' GROUP BY w.pool
)
SELECT live.pool, coalesce(r.round, 0) AS round, now() AS now, next.tenant_id, next.job_id, next.epoch, next.lane
FROM live LEFT JOIN job_rounds AS r ON r.tenant_id = '*' AND r.pool = live.pool
CROSS JOIN LATERAL (
    SELECT greatest(0, live.slots - count(*)) AS places FROM jobs AS j
    WHERE j.crashes = 1 AND j.pool = live.pool AND j.state = 'dispatched'
) AS free
CROSS JOIN LATERAL (
    SELECT j.tenant_id, j.job_id, j.epoch, j.lane, j.due_at FROM jobs AS j
    WHERE j.crashes = 1 AND j.pool = live.pool AND j.state = 'queued' AND j.due_at <= now() AND NOT EXISTS (
        SELECT FROM queue_pauses AS p
        WHERE p.tenant_id IN ('*', j.tenant_id) AND p.pool IN ('', j.pool) AND p.model IN ('', j.model)
    )
    ORDER BY j.due_at, j.job_id LIMIT free.places
) AS next
ORDER BY live.pool, next.due_at, next.job_id
"""

# Dispatched jobs for a worker that asks: its own record may be held by a worker that died, or be lost. Those that came
# back go to whoever asks, again and again: the first free slot claims it. The others go to one worker at a time, in the
# order in which workers take records (see the handicaps of lanes in the worker).
UNCLAIMED = """
WITH returned AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, j.epoch, j.lane, j.dispatched_at FROM jobs AS j
    WHERE j.pool = $1 AND j.state = 'dispatched' AND j.crashes > 0 ORDER BY j.due_at, j.job_id LIMIT $2
), late AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id FROM jobs AS j
    WHERE j.pool = $1 AND j.state = 'dispatched' AND j.crashes = 0 AND j.dispatched_at <= now() - $4::interval
    ORDER BY j.dispatched_at + CASE j.lane
        WHEN 'interactive' THEN interval '0' WHEN 'standard' THEN interval '2 seconds' ELSE interval '8 seconds' END
    LIMIT $3 FOR UPDATE SKIP LOCKED
), offered AS (
    UPDATE jobs AS j SET dispatched_at = now() FROM late
    WHERE j.tenant_id = late.tenant_id AND j.job_id = late.job_id
    RETURNING j.tenant_id, j.job_id, j.epoch, j.lane
)
SELECT tenant_id, job_id, epoch, lane FROM returned UNION ALL SELECT tenant_id, job_id, epoch, lane FROM offered
"""
