-- Public model names and the upstream models that serve them. Tenant '*' means all tenants; a tenant's own route overrides
-- the public one, and a route without candidates hides the model from its tenant.
CREATE TABLE orchestration.routes (
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    model text NOT NULL CHECK (model <> ''),
    task text NOT NULL CHECK (task IN ('chat', 'embedding')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, model)
);

CREATE TABLE orchestration.route_candidates (
    tenant_id text NOT NULL,
    model text NOT NULL,
    position smallint NOT NULL CHECK (position >= 0), -- tried in this order
    upstream text NOT NULL CHECK (upstream <> '' AND upstream !~ '/'), -- "<upstream>/<upstream_model>" is the price key
    upstream_model text NOT NULL CHECK (upstream_model <> ''),
    -- The most that one answer can have, and the limit of a request without one. 0 for embeddings.
    max_output_tokens integer NOT NULL CHECK (max_output_tokens >= 0),
    -- The field of the request body in which this upstream takes the output limit.
    limit_field text NOT NULL DEFAULT 'max_tokens' CHECK (limit_field IN ('max_tokens', 'max_completion_tokens')),
    -- Whether this upstream gets fields of a request that the table of fields does not know. NULL for what the settings say.
    unknown_fields text CHECK (unknown_fields IN ('drop', 'pass')),
    -- Whose fields, and whose token rules for images and sound, hold. NULL for one that is not known: the most expensive rule.
    provider text CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    PRIMARY KEY (tenant_id, model, position),
    FOREIGN KEY (tenant_id, model) REFERENCES orchestration.routes ON DELETE CASCADE
);

-- One row; triggers increment it with every change of a route. Processes cache the routes and poll only this version.
CREATE TABLE orchestration.route_versions (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id)
);
INSERT INTO orchestration.route_versions (tenant_id, version) VALUES ('*', 1);

-- Transactional outbox. The relay publishes events in the order of their ids.
CREATE TABLE orchestration.outbox (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    id text NOT NULL,
    topic text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000); -- rows are deleted soon after they are inserted
CREATE INDEX outbox_in_order ON orchestration.outbox (id);

SELECT isolate_tenants(
    'orchestration.routes', 'orchestration.route_candidates', 'orchestration.route_versions', 'orchestration.outbox'
);

-- Routes decide which upstream gets a tenant's prompts: the service reads them, and only the schema's owner writes them.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON
    orchestration.routes, orchestration.route_candidates, orchestration.route_versions FROM orchestrator_app;

-- Runs as the owner and for all tenants: no other role may write the version, and row-level security must not hide it, or
-- processes would keep outdated routes.
CREATE FUNCTION orchestration.count_route_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named text := current_setting('argosy.tenant', true);
BEGIN
    PERFORM set_config('argosy.tenant', '*', true);
    UPDATE orchestration.route_versions SET version = version + 1;
    PERFORM set_config('argosy.tenant', coalesce(named, ''), true);
    RETURN NULL;
END $$;

CREATE TRIGGER routes_change_the_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON orchestration.routes
    FOR EACH STATEMENT EXECUTE FUNCTION orchestration.count_route_version();
CREATE TRIGGER candidates_change_the_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON orchestration.route_candidates
    FOR EACH STATEMENT EXECUTE FUNCTION orchestration.count_route_version();
