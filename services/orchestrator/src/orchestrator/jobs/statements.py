"""The SQL of jobs. Each statement is a transaction.

Locks are taken in one order, so that no two transactions wait for each other: rows of `jobs` by their key (or those
that are free, with SKIP LOCKED), then rows of `tenant_queues` by theirs. `SUBMIT` begins with rows of `batches`, then
takes the queues: it waits for no job. Counters are changed by one INSERT … ON CONFLICT, which reads the current value,
not that of the snapshot.
"""

JOB = """
j.tenant_id, j.job_id, j.project_id, j.endpoint, j.model, j.pool, j.lane, j.state, j.state_reason, j.epoch,
j.created_at, j.deadline_at, j.started_at, j.errors, j.crashes, j.worker_id, j.last_error AS error, j.usage,
j.cost_nano_usd, j.retention, j.metadata, j.batch_id, j.custom_id, j.cancel_requested_at IS NOT NULL AS cancel_requested
"""
RUN = f"""
{JOB}, j.key_id, j.user_id, j.plan, j.run, now() AS now,
CASE WHEN j.endpoint = '/v1/embeddings' THEN j.body END AS embedding
"""
FINISHED_JOB = """
j.tenant_id, j.job_id, j.project_id, j.endpoint, j.model, j.pool, j.lane, j.state, '' AS state_reason, j.epoch,
j.created_at, j.deadline_at, j.started_at, j.errors, j.crashes, j.worker_id, j.error, j.usage, j.cost_nano_usd,
j.expires_at - j.finished_at AS retention, j.metadata, j.batch_id, j.custom_id, false AS cancel_requested,
j.finished_at, j.expires_at
"""

_COUNT = """
INSERT INTO tenant_queues AS q (tenant_id, pool, lane, queued, queued_tokens, dispatched, running)
SELECT tenant_id, pool, lane, {queued}, {tokens}, {dispatched}, {running} FROM {changed}
GROUP BY tenant_id, pool, lane ORDER BY tenant_id, pool, lane
ON CONFLICT (tenant_id, pool, lane) DO UPDATE SET
    queued = q.queued + excluded.queued, queued_tokens = q.queued_tokens + excluded.queued_tokens,
    dispatched = q.dispatched + excluded.dispatched, running = q.running + excluded.running
"""


def _count(changed: str, *, queued: str = "0", tokens: str = "0", dispatched: str = "0", running: str = "0") -> str:
    return _COUNT.format(changed=changed, queued=queued, tokens=tokens, dispatched=dispatched, running=running)


SUBMIT = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
        $10::text[], $11::text[], $12::text[], $13::bigint[], $14::interval[], $15::interval[], $16::bigint[],
        $17::bytea[], $18::text[], $19::text[]
    ) WITH ORDINALITY AS new (
        tenant_id, job_id, project_id, key_id, user_id, plan, endpoint, model, body, metadata, pool, lane, cost_tokens,
        deadline, retention, max_queued, fingerprint, batch_id, custom_id, place
    )
), batches_now AS MATERIALIZED (
    SELECT b.tenant_id, b.batch_id, b.state = 'in_progress' AND b.expires_at > now() AS takes_jobs
    FROM (SELECT DISTINCT tenant_id, batch_id FROM new WHERE batch_id IS NOT NULL) AS named
    JOIN batches AS b USING (tenant_id, batch_id) ORDER BY b.tenant_id, b.batch_id FOR SHARE OF b
), queues AS MATERIALIZED (
    SELECT q.tenant_id, q.queued FROM tenant_queues AS q WHERE q.tenant_id = ANY ($1)
    ORDER BY q.tenant_id, q.pool, q.lane FOR UPDATE
), waiting AS (
    SELECT tenant_id, sum(queued) AS queued FROM queues GROUP BY tenant_id
), fresh AS MATERIALIZED (
    SELECT new.*,
        row_number() OVER (PARTITION BY new.tenant_id ORDER BY place) + coalesce(waiting.queued, 0) AS position
    FROM new LEFT JOIN waiting USING (tenant_id)
    -- A process that has lost the lease of a batch, and does not know it yet, must not add to what was cancelled.
    WHERE coalesce((
        SELECT b.takes_jobs FROM batches_now AS b WHERE b.tenant_id = new.tenant_id AND b.batch_id = new.batch_id
    ), true)
    AND NOT coalesce((SELECT true FROM jobs AS j WHERE j.tenant_id = new.tenant_id AND j.job_id = new.job_id), false)
    AND NOT coalesce(
        (SELECT true FROM finished_jobs AS j WHERE j.tenant_id = new.tenant_id AND j.job_id = new.job_id LIMIT 1), false
    )
), inserted AS (
    INSERT INTO jobs (
        tenant_id, job_id, project_id, key_id, user_id, plan, endpoint, model, body, metadata, pool, lane, cost_tokens,
        deadline_at, retention, fingerprint, batch_id, custom_id
    )
    SELECT tenant_id, job_id, project_id, key_id, user_id, plan, endpoint, model, body, metadata::jsonb,
        coalesce((SELECT t.pool FROM pool_tenants AS t WHERE t.tenant_id = fresh.tenant_id), pool), lane,
        cost_tokens, now() + deadline, retention, fingerprint, batch_id, custom_id
    FROM fresh WHERE position <= max_queued ORDER BY tenant_id, job_id
    ON CONFLICT (tenant_id, job_id) DO NOTHING
    RETURNING tenant_id, job_id, pool, lane, cost_tokens, created_at, deadline_at
), counted AS ({_count("inserted", queued="count(*)", tokens="sum(cost_tokens)")})
SELECT tenant_id, job_id, pool, created_at, deadline_at FROM inserted
"""  # noqa: S608 - constants

FIND = f"""
SELECT {JOB}, j.fingerprint, NULL::timestamptz AS finished_at, NULL::timestamptz AS expires_at, now() AS now
FROM unnest($1::text[], $2::text[]) AS asked (tenant_id, job_id)
JOIN jobs AS j USING (tenant_id, job_id)
UNION ALL
SELECT {FINISHED_JOB.replace("j.finished_at, j.expires_at", "j.fingerprint, j.finished_at, j.expires_at")}, now()
FROM unnest($1::text[], $2::text[]) AS asked (tenant_id, job_id)
JOIN finished_jobs AS j USING (tenant_id, job_id)
"""  # noqa: S608 - constants

CLAIM = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) WITH ORDINALITY
        AS a (tenant_id, job_id, epoch, worker_id, place)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, a.worker_id, a.place FROM asked AS a JOIN jobs AS j USING (tenant_id, job_id)
    WHERE j.epoch = a.epoch AND j.state = 'dispatched' ORDER BY j.tenant_id, j.job_id FOR UPDATE OF j
), claimed AS (
    UPDATE jobs AS j SET state = 'running', epoch = j.epoch + 1, crashes = j.crashes + 1, due_at = now() + $5::interval,
        started_at = now(), worker_id = l.worker_id, request_id = j.job_id || '.' || (j.epoch + 1), run = NULL
    FROM locked AS l WHERE j.tenant_id = l.tenant_id AND j.job_id = l.job_id
    RETURNING {RUN}, j.body, l.place
), counted AS ({_count("claimed", dispatched="-count(*)", running="count(*)")})
SELECT * FROM claimed
"""  # noqa: S608 - constants

SAVE_RUNS = """
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) WITH ORDINALITY
        AS a (tenant_id, job_id, epoch, run, place)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, a.run, a.place FROM asked AS a JOIN jobs AS j USING (tenant_id, job_id)
    WHERE j.epoch = a.epoch AND j.state = 'running' ORDER BY j.tenant_id, j.job_id FOR UPDATE OF j
)
UPDATE jobs AS j SET run = l.run::jsonb, due_at = now() + $5::interval FROM locked AS l
WHERE j.tenant_id = l.tenant_id AND j.job_id = l.job_id RETURNING l.place
"""

HEARTBEAT = """
WITH seen AS (
    INSERT INTO job_workers (tenant_id, worker_id, pool, slots) VALUES ('*', $1, $2, $3)
    ON CONFLICT (tenant_id, worker_id) DO UPDATE SET pool = excluded.pool, slots = excluded.slots, seen_at = now()
), asked AS MATERIALIZED (
    SELECT * FROM unnest($4::text[], $5::text[], $6::bigint[]) WITH ORDINALITY AS a (tenant_id, job_id, epoch, place)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, a.place FROM asked AS a JOIN jobs AS j USING (tenant_id, job_id)
    WHERE j.epoch = a.epoch AND j.state = 'running' ORDER BY j.tenant_id, j.job_id FOR UPDATE OF j SKIP LOCKED
), extended AS (
    UPDATE jobs AS j SET due_at = now() + $7::interval FROM locked AS l
    WHERE j.tenant_id = l.tenant_id AND j.job_id = l.job_id
    RETURNING l.place, j.cancel_requested_at IS NOT NULL AS cancelled
)
SELECT place, cancelled FROM extended
UNION ALL
SELECT a.place, j.cancel_requested_at IS NOT NULL FROM asked AS a JOIN jobs AS j USING (tenant_id, job_id)
WHERE j.epoch = a.epoch AND j.state = 'running' AND a.place NOT IN (SELECT place FROM locked)
"""
"""A run whose row is being written, as while a large answer is stored, holds up no other's lease. It keeps its own:
that of a large answer is extended before (`EXTEND_LEASES`)."""

EXTEND_LEASES = """
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (tenant_id, job_id, epoch)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id FROM asked AS a JOIN jobs AS j USING (tenant_id, job_id)
    WHERE j.epoch = a.epoch AND j.state = 'running' ORDER BY j.tenant_id, j.job_id FOR UPDATE OF j
)
UPDATE jobs AS j SET due_at = greatest(j.due_at, now() + $4::interval) FROM locked AS l
WHERE j.tenant_id = l.tenant_id AND j.job_id = l.job_id
"""

RUNNING = f"""
SELECT {RUN}, a.place
FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS a (tenant_id, job_id, epoch, place)
JOIN jobs AS j USING (tenant_id, job_id) WHERE j.epoch = a.epoch AND j.state = 'running'
"""  # noqa: S608 - constants

OVERDUE_RUNS = f"""
SELECT {RUN} FROM jobs AS j WHERE j.state = 'running' AND j.due_at <= now() ORDER BY j.due_at LIMIT $1
"""  # noqa: S608 - constants

END = f"""
WITH ended AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::boolean[], $7::bigint[], $8::text[],
        $9::text[], $10::interval[], $11::smallint[], $12::smallint[], $13::text[], $14::text[], $15::bigint[],
        $16::bytea[], $17::timestamptz[], $18::timestamptz[]
    ) WITH ORDINALITY AS e (
        tenant_id, job_id, epoch, waits, cancel_requested, overdue, new_epoch, state, state_reason, delay, errors,
        crashes, error, usage, cost, result, finished_at, expires_at, place
    )
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, j.pool, j.lane, j.cost_tokens, j.state AS before, e.state, e.place
    FROM ended AS e JOIN jobs AS j USING (tenant_id, job_id)
    WHERE j.epoch = e.epoch AND CASE WHEN e.waits THEN j.state <> 'running' ELSE j.state = 'running'
        AND (j.cancel_requested_at IS NOT NULL) = e.cancel_requested AND (NOT e.overdue OR j.due_at <= now()) END
    ORDER BY j.tenant_id, j.job_id FOR UPDATE OF j
), requeued AS (
    UPDATE jobs AS j SET epoch = e.new_epoch, state = e.state, state_reason = e.state_reason,
        due_at = CASE WHEN e.delay > interval '0' THEN now() + e.delay ELSE j.created_at END,
        errors = e.errors, crashes = e.crashes, last_error = e.error::jsonb, usage = e.usage::jsonb,
        cost_nano_usd = e.cost, run = NULL, request_id = ''
    FROM ended AS e JOIN locked AS l USING (place)
    WHERE j.tenant_id = l.tenant_id AND j.job_id = l.job_id AND e.finished_at IS NULL
), deleted AS (
    DELETE FROM jobs AS j USING ended AS e JOIN locked AS l USING (place)
    WHERE j.tenant_id = l.tenant_id AND j.job_id = l.job_id AND e.finished_at IS NOT NULL RETURNING j.*, e.place
), finished AS (
    INSERT INTO finished_jobs (
        tenant_id, job_id, expires_on, project_id, endpoint, model, metadata, pool, lane, batch_id, custom_id,
        fingerprint, state, epoch, errors, crashes, created_at, deadline_at, started_at, finished_at, expires_at,
        worker_id, result, error, usage, cost_nano_usd
    )
    SELECT d.tenant_id, d.job_id, (e.expires_at AT TIME ZONE 'UTC')::date, d.project_id, d.endpoint, d.model,
        d.metadata, d.pool, d.lane, d.batch_id, d.custom_id, d.fingerprint, e.state, e.new_epoch, e.errors, e.crashes,
        d.created_at, d.deadline_at, d.started_at, e.finished_at, e.expires_at, d.worker_id, e.result, e.error::jsonb,
        e.usage::jsonb, e.cost
    FROM deleted AS d JOIN ended AS e USING (place)
), counted AS ({
    _count(
        "locked",
        queued="count(*) FILTER (WHERE state = 'queued') - count(*) FILTER (WHERE before = 'queued')",
        tokens="coalesce(sum(cost_tokens) FILTER (WHERE state = 'queued'), 0)"
        " - coalesce(sum(cost_tokens) FILTER (WHERE before = 'queued'), 0)",
        dispatched="-count(*) FILTER (WHERE before = 'dispatched')",
        running="-count(*) FILTER (WHERE before = 'running')",
    )
}), events AS (
    INSERT INTO outbox (tenant_id, id, topic, value, headers, request_id)
    SELECT l.tenant_id, e.id, e.topic, e.value, e.headers::jsonb, e.request_id
    FROM unnest($19::bigint[], $20::text[], $21::text[], $22::bytea[], $23::text[], $24::text[])
        AS e (place, id, topic, value, headers, request_id)
    JOIN locked AS l USING (place) ORDER BY l.tenant_id, e.id ON CONFLICT (tenant_id, id) DO NOTHING
)
SELECT place FROM locked
"""  # noqa: S608 - constants

REQUEST_CANCEL = f"""
UPDATE jobs AS j SET cancel_requested_at = coalesce(j.cancel_requested_at, now())
WHERE j.tenant_id = $1 AND j.job_id = $2 AND j.epoch = $3 AND j.state = 'running' RETURNING {JOB}
"""  # noqa: S608 - constants

REQUEUE_LOST = f"""
WITH lost AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id FROM jobs AS j WHERE j.state = 'dispatched' AND j.due_at <= now()
    ORDER BY j.due_at LIMIT $1 FOR UPDATE SKIP LOCKED
), queued AS (
    UPDATE jobs AS j SET state = 'queued', due_at = j.created_at FROM lost
    WHERE j.tenant_id = lost.tenant_id AND j.job_id = lost.job_id RETURNING {JOB}, j.cost_tokens
), counted AS ({_count("queued", queued="count(*)", tokens="sum(cost_tokens)", dispatched="-count(*)")})
SELECT * FROM queued
"""  # noqa: S608 - constants

PAST_DEADLINE = f"""
SELECT {JOB}, now() AS now FROM jobs AS j WHERE j.deadline_at <= now() AND j.state IN ('queued', 'dispatched')
ORDER BY j.deadline_at LIMIT $1
"""  # noqa: S608 - constants

RETRY_QUARANTINED = f"""
WITH queued AS (
    -- The epoch: who has read the job in quarantine, to drop it, is too late.
    UPDATE jobs AS j SET state = 'queued', state_reason = '', errors = 0, crashes = 0, due_at = now(),
        deadline_at = now() + $3::interval, epoch = j.epoch + 1
    WHERE j.tenant_id = $1 AND j.job_id = $2 AND j.state = 'quarantined' RETURNING {JOB}, j.cost_tokens
), counted AS ({_count("queued", queued="count(*)", tokens="sum(cost_tokens)")})
SELECT * FROM queued
"""  # noqa: S608 - constants

RUNNING_REQUESTS = """
SELECT j.tenant_id, j.request_id FROM unnest($1::text[], $2::text[]) AS asked (tenant_id, request_id)
JOIN jobs AS j USING (tenant_id, request_id) WHERE j.state = 'running' AND j.request_id <> ''
"""

FORGET_WORKERS = "DELETE FROM job_workers WHERE tenant_id = '*' AND seen_at < now() - interval '1 hour' RETURNING 1"
