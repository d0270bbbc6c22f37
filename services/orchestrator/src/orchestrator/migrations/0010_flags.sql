-- Feature flags as they are now; their history is in the log of changes.
CREATE TABLE orchestration.flags (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    key text NOT NULL CHECK (key <> ''),
    flag jsonb NOT NULL,
    version bigint NOT NULL, -- of its last change
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);

SELECT isolate_tenants('orchestration.flags');
