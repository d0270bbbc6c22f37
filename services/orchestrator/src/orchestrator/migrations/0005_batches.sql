-- Batches of requests, as OpenAI's Batch API has them. Their requests are rows of `jobs`; a process that holds the lease of a
-- batch (`due_at`, `epoch`) moves it on: it reads the file, makes the jobs, waits for them, and writes the files.
CREATE TABLE orchestration.batches (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    batch_id text NOT NULL,
    -- The principal that its requests run as.
    project_id text NOT NULL,
    key_id text NOT NULL,
    user_id text NOT NULL DEFAULT '',
    plan text NOT NULL DEFAULT '',
    endpoint text NOT NULL,
    input_file_id text NOT NULL,
    completion_window text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'validating' CHECK (state IN (
        'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
    total bigint NOT NULL DEFAULT 0,
    -- Lines of the file that are jobs or errors already; reading goes on after them.
    lines_read bigint NOT NULL DEFAULT 0,
    submitted boolean NOT NULL DEFAULT false, -- all of them
    output_file_id text NOT NULL DEFAULT '',
    error_file_id text NOT NULL DEFAULT '',
    -- The counts of a final batch, whose jobs expire before it does.
    completed bigint,
    failed bigint,
    -- Why the file cannot be run: [{line, error}].
    errors jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    in_progress_at timestamptz,
    finalizing_at timestamptz,
    finished_at timestamptz,
    cancelling_at timestamptz,
    expires_at timestamptz NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    crashes smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, batch_id)
) WITH (fillfactor = 70);
CREATE INDEX batches_due ON orchestration.batches (due_at) WHERE finished_at IS NULL;

-- Lines that never became jobs: their errors go into the batch's error file.
CREATE TABLE orchestration.batch_line_errors (
    tenant_id text NOT NULL,
    batch_id text NOT NULL,
    line bigint NOT NULL CHECK (line > 0),
    custom_id text,
    error jsonb NOT NULL,
    PRIMARY KEY (tenant_id, batch_id, line),
    FOREIGN KEY (tenant_id, batch_id) REFERENCES orchestration.batches ON DELETE CASCADE
);

-- Counts of a running batch: by state, from the index alone.
CREATE INDEX finished_jobs_batch_states ON orchestration.finished_jobs (tenant_id, batch_id, state) WHERE batch_id IS NOT NULL;

SELECT isolate_tenants('orchestration.batches', 'orchestration.batch_line_errors');
