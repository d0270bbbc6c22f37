-- Tenants, projects, API keys, and the record of administrative writes.

-- Names are unique in the installation: the bootstrap finds a tenant by its name.
CREATE TABLE identity.tenants (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    name text NOT NULL CHECK (name <> ''),
    plan text NOT NULL CHECK (plan <> ''),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_name UNIQUE (name)
);

CREATE TABLE identity.projects (
    tenant_id text NOT NULL,
    project_id text NOT NULL CHECK (project_id <> ''),
    name text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, project_id),
    CONSTRAINT projects_name UNIQUE (tenant_id, name),
    CONSTRAINT projects_tenant FOREIGN KEY (tenant_id) REFERENCES identity.tenants (tenant_id)
);

-- sha256 is the digest of the key's text. Of that, 190 bits are random: it needs no salt and no slow hash.
CREATE TABLE identity.api_keys (
    tenant_id text NOT NULL,
    key_id text NOT NULL CHECK (key_id <> ''),
    project_id text NOT NULL,
    name text NOT NULL,
    env text NOT NULL CHECK (env <> ''),
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, key_id),
    CONSTRAINT api_keys_project FOREIGN KEY (tenant_id, project_id) REFERENCES identity.projects (tenant_id, project_id)
);
-- A presented key contains its own id, but not its tenant's.
CREATE UNIQUE INDEX api_keys_id ON identity.api_keys (key_id);

CREATE TABLE identity.audit (
    tenant_id text NOT NULL,
    entry_id text NOT NULL CHECK (entry_id <> ''),
    action text NOT NULL CHECK (action <> ''),
    target text NOT NULL,
    actor_tenant_id text NOT NULL,
    actor_key_id text NOT NULL,
    request_id text NOT NULL,
    detail jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, entry_id)
);

SELECT isolate_tenants('identity.tenants', 'identity.projects', 'identity.api_keys', 'identity.audit');

-- The service deletes nothing, changes no audit entry, and of a key only its revocation.
REVOKE DELETE ON identity.tenants, identity.projects, identity.api_keys, identity.audit FROM gateway_app;
REVOKE UPDATE ON identity.projects, identity.api_keys, identity.audit FROM gateway_app;
GRANT UPDATE (revoked_at) ON identity.api_keys TO gateway_app;
