-- Every change of the configuration: routes, upstreams, flags. Rows are never changed.
CREATE TABLE orchestration.configuration_changes (
    tenant_id text NOT NULL CHECK (tenant_id <> ''), -- '*' for what holds for all tenants
    version bigint NOT NULL,
    kind text NOT NULL CHECK (kind <> ''),
    name text NOT NULL CHECK (name <> ''),
    -- The object as a document without secrets. NULL: it did not exist before, or does not exist after.
    before jsonb,
    after jsonb,
    author text NOT NULL CHECK (author <> ''),
    reason text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version),
    CONSTRAINT configuration_changes_change CHECK (before IS DISTINCT FROM after)
);
CREATE UNIQUE INDEX configuration_changes_in_order ON orchestration.configuration_changes (version);
CREATE INDEX configuration_changes_of_object ON orchestration.configuration_changes (kind, name, version);

-- One row: the version of the last change. A change locks it first, so versions are committed in their order, and a process
-- that has read a version has read all before it.
CREATE TABLE orchestration.configuration_versions (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id)
);
INSERT INTO orchestration.configuration_versions (tenant_id, version) VALUES ('*', 0);

SELECT isolate_tenants('orchestration.configuration_changes', 'orchestration.configuration_versions');

REVOKE UPDATE, DELETE, TRUNCATE ON orchestration.configuration_changes FROM orchestrator_app;
REVOKE INSERT, DELETE, TRUNCATE ON orchestration.configuration_versions FROM orchestrator_app;
