-- Upstreams that operators declare by the API, as they are now; their history is in the log of changes.
CREATE TABLE orchestration.upstreams (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    name text NOT NULL CHECK (name <> ''),
    upstream jsonb NOT NULL,
    version bigint NOT NULL, -- of its last change
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);

-- A random key for each tenant, wrapped by a key of the settings. Without it, what it has sealed is unreadable.
CREATE TABLE orchestration.data_keys (
    tenant_id text NOT NULL CHECK (tenant_id <> ''), -- '*' for the house's
    wrapped_key bytea NOT NULL,
    wrapped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id)
);

CREATE TABLE orchestration.upstream_credentials (
    tenant_id text NOT NULL CHECK (tenant_id <> ''), -- '*' for the house's
    upstream text NOT NULL CHECK (upstream <> ''),
    credential_id text NOT NULL CHECK (credential_id <> ''),
    sealed bytea NOT NULL, -- by the tenant's data key, for this tenant, upstream and id
    label text NOT NULL DEFAULT '',
    weight integer NOT NULL DEFAULT 1 CHECK (weight >= 1),
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, upstream, credential_id)
);
CREATE INDEX upstream_credentials_of_upstream ON orchestration.upstream_credentials (upstream);

SELECT isolate_tenants('orchestration.upstreams', 'orchestration.data_keys', 'orchestration.upstream_credentials');
