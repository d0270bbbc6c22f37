-- Endpoints of tenants, what is delivered to them, and every attempt.
CREATE TABLE orchestration.webhook_endpoints (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    endpoint_id text NOT NULL,
    url text NOT NULL,
    description text NOT NULL DEFAULT '',
    event_types text[] NOT NULL DEFAULT '{}', -- empty: all
    enabled boolean NOT NULL DEFAULT true,
    disabled_reason text NOT NULL DEFAULT '' CHECK (disabled_reason IN ('', 'requested', 'gone', 'failing')),
    disabled_at timestamptz,
    -- Encrypted by the service, with a key that the database does not have.
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_secret_expires_at timestamptz,
    -- Since when every attempt has failed, and how many.
    failing_since timestamptz,
    failures integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, endpoint_id),
    CONSTRAINT webhook_endpoints_say_why CHECK (enabled = (disabled_reason = '') AND enabled = (disabled_at IS NULL)),
    CONSTRAINT webhook_endpoints_old_secrets_expire
        CHECK ((previous_secret IS NULL) = (previous_secret_expires_at IS NULL))
);

-- One event for one endpoint. No foreign key: the log of a deleted endpoint is kept as long as that of others.
CREATE TABLE orchestration.webhook_deliveries (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    delivery_id text NOT NULL,
    endpoint_id text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    payload bytea NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'exhausted', 'cancelled')),
    -- Attempts ever; failed ones since `scheduled_at`, when the schedule began.
    attempts integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    -- The lease, see chassis.postgres.leases. It is held while `epoch` is above `recorded_epoch` and `due_at` is to come.
    due_at timestamptz NOT NULL DEFAULT now(),
    epoch bigint NOT NULL DEFAULT 0,
    recorded_epoch bigint NOT NULL DEFAULT 0,
    last_status integer NOT NULL DEFAULT 0,
    last_error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, delivery_id),
    CONSTRAINT webhook_deliveries_once_per_event UNIQUE (tenant_id, event_id, endpoint_id),
    CONSTRAINT webhook_deliveries_end CHECK ((state = 'pending') = (finished_at IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
-- From endpoint to endpoint, and of each those due for longest: a long backlog of one costs the others nothing.
CREATE INDEX webhook_deliveries_due ON orchestration.webhook_deliveries (tenant_id, endpoint_id, due_at)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_by_endpoint ON orchestration.webhook_deliveries (tenant_id, endpoint_id, delivery_id);
CREATE INDEX webhook_deliveries_finished ON orchestration.webhook_deliveries (finished_at) WHERE state <> 'pending';

CREATE TABLE orchestration.webhook_attempts (
    tenant_id text NOT NULL,
    delivery_id text NOT NULL,
    number integer NOT NULL CHECK (number >= 1),
    started_at timestamptz NOT NULL,
    duration interval NOT NULL,
    status integer NOT NULL,
    error text NOT NULL,
    response text NOT NULL CHECK (length(response) <= 1024),
    PRIMARY KEY (tenant_id, delivery_id, number),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES orchestration.webhook_deliveries ON DELETE CASCADE
);

SELECT isolate_tenants(
    'orchestration.webhook_endpoints', 'orchestration.webhook_deliveries', 'orchestration.webhook_attempts'
);
