-- Jobs that are not final. Few rows stay for long: a final job moves to `finished_jobs` in the transaction that ends it.
CREATE TABLE orchestration.jobs (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    job_id text NOT NULL,
    -- The principal that the job runs as.
    project_id text NOT NULL,
    key_id text NOT NULL,
    user_id text NOT NULL DEFAULT '',
    plan text NOT NULL DEFAULT '',
    endpoint text NOT NULL,
    model text NOT NULL,
    body bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    pool text NOT NULL,
    lane text NOT NULL CHECK (lane IN ('interactive', 'standard', 'batch')),
    -- The most tokens that it can use, by which tenants share a lane.
    cost_tokens bigint NOT NULL CHECK (cost_tokens >= 0),
    batch_id text,
    custom_id text,
    -- Of all that the client chose: a repeated submission has the same.
    fingerprint bytea NOT NULL,
    -- How long its result is kept.
    retention interval NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'dispatched', 'running', 'quarantined')),
    state_reason text NOT NULL DEFAULT '',
    -- Every dispatch and every claim raises it; each write of a dispatch or a run names the one that it belongs to.
    epoch bigint NOT NULL DEFAULT 0,
    -- Queued: not before. Dispatched: queued again when no worker has claimed it by then. Running: the end of the lease.
    due_at timestamptz NOT NULL DEFAULT now(),
    errors smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    deadline_at timestamptz NOT NULL,
    dispatched_at timestamptz,
    started_at timestamptz,
    worker_id text NOT NULL DEFAULT '',
    -- The run: the request that metering knows, and what its settlement needs (candidates, bounds, prices, attempts).
    request_id text NOT NULL DEFAULT '',
    run jsonb,
    cancel_requested_at timestamptz,
    last_error jsonb,
    -- Over the runs until now.
    usage jsonb,
    cost_nano_usd bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, job_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
-- The order in which a tenant's jobs are dispatched.
CREATE INDEX jobs_queued ON orchestration.jobs (pool, lane, tenant_id, due_at, job_id) WHERE state = 'queued';
-- The oldest waiting job of a lane, for queue metrics.
CREATE INDEX jobs_oldest ON orchestration.jobs (pool, lane, due_at) WHERE state = 'queued';
-- Dispatches that no worker claimed, and leases that ran out.
CREATE INDEX jobs_overdue ON orchestration.jobs (due_at) WHERE state IN ('dispatched', 'running');
CREATE INDEX jobs_past_deadline ON orchestration.jobs (deadline_at) WHERE state IN ('queued', 'dispatched');
CREATE INDEX jobs_quarantined ON orchestration.jobs (job_id) WHERE state = 'quarantined';
CREATE INDEX jobs_by_request ON orchestration.jobs (tenant_id, request_id) WHERE request_id <> '';
CREATE INDEX jobs_by_batch ON orchestration.jobs (tenant_id, batch_id, job_id) WHERE batch_id IS NOT NULL;
-- Lists of a tenant's jobs leave out those of batches, of which there may be very many.
CREATE INDEX jobs_of_no_batch ON orchestration.jobs (tenant_id, job_id) WHERE batch_id IS NULL;

-- Final jobs, until the day on which their results expire: then the partition of that day is dropped.
CREATE TABLE orchestration.finished_jobs (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    job_id text NOT NULL,
    expires_on date NOT NULL,
    project_id text NOT NULL,
    endpoint text NOT NULL,
    model text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    pool text NOT NULL,
    lane text NOT NULL,
    batch_id text,
    custom_id text,
    fingerprint bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('succeeded', 'failed', 'cancelled')),
    epoch bigint NOT NULL,
    errors smallint NOT NULL,
    crashes smallint NOT NULL,
    created_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    worker_id text NOT NULL DEFAULT '',
    result bytea,
    error jsonb,
    usage jsonb,
    cost_nano_usd bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, job_id, expires_on)
) PARTITION BY RANGE (expires_on);
CREATE INDEX finished_jobs_by_batch ON orchestration.finished_jobs (tenant_id, batch_id, job_id) WHERE batch_id IS NOT NULL;
CREATE INDEX finished_jobs_of_no_batch ON orchestration.finished_jobs (tenant_id, job_id) WHERE batch_id IS NULL;

-- Jobs of the last seconds, for how long one takes. Rows are added in the order of this time, always at the same end.
CREATE INDEX finished_jobs_by_time ON orchestration.finished_jobs (finished_at);

-- The waiting jobs of each tenant in each pool and lane, kept exact by the transactions that change them: counting rows would
-- take too long at a million jobs. `deficit` is the tenant's credit in tokens (deficit round robin, Shreedhar and Varghese 1995).
CREATE TABLE orchestration.tenant_queues (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    pool text NOT NULL,
    lane text NOT NULL,
    queued bigint NOT NULL DEFAULT 0,
    queued_tokens bigint NOT NULL DEFAULT 0,
    dispatched bigint NOT NULL DEFAULT 0,
    running bigint NOT NULL DEFAULT 0,
    deficit bigint NOT NULL DEFAULT 0,
    -- The last round that dispatched one of its jobs: where very many tenants wait, a round looks at those served longest ago.
    served_round bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, pool, lane)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);

-- Rounds of dispatches. Whoever writes a round has read the one before: so no two use the same free places.
CREATE TABLE orchestration.job_rounds (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    pool text NOT NULL,
    round bigint NOT NULL,
    -- The last dispatch of each lane.
    interactive_at timestamptz,
    standard_at timestamptz,
    batch_at timestamptz,
    PRIMARY KEY (tenant_id, pool)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500);

-- What operators have paused; '' matches all.
CREATE TABLE orchestration.queue_pauses (
    tenant_id text NOT NULL CHECK (tenant_id <> ''), -- '*' for all
    pool text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    paused_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, pool, model)
);

-- Workers that consume, with the slots that they advertise. One without a heartbeat for 15 s counts as dead.
CREATE TABLE orchestration.job_workers (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    worker_id text NOT NULL,
    pool text NOT NULL,
    slots integer NOT NULL CHECK (slots >= 0),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, worker_id)
);

SELECT isolate_tenants(
    'orchestration.jobs', 'orchestration.finished_jobs', 'orchestration.tenant_queues', 'orchestration.queue_pauses',
    'orchestration.job_rounds', 'orchestration.job_workers'
);
