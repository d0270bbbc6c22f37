-- Routes: public model names and who can answer for them. Tenant '*' is for everybody; a tenant's own route overrides it,
-- and one without candidates hides the model from that tenant.
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
    -- The most it can write in one answer, and what a client gets who sets no limit. 0 for embeddings.
    max_output_tokens integer NOT NULL CHECK (max_output_tokens >= 0),
    -- The field of the body in which this provider takes that limit.
    limit_field text NOT NULL DEFAULT 'max_tokens' CHECK (limit_field IN ('max_tokens', 'max_completion_tokens')),
    PRIMARY KEY (tenant_id, model, position),
    FOREIGN KEY (tenant_id, model) REFERENCES orchestration.routes ON DELETE CASCADE
);

-- One row, counted up by whatever changes a route: readers keep the routes in memory and look only at this.
CREATE TABLE orchestration.route_versions (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id)
);
INSERT INTO orchestration.route_versions (tenant_id, version) VALUES ('*', 1);

-- Events that become true together with the rows they tell of; the relay publishes them in the order of their ids.
CREATE TABLE orchestration.outbox (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    id text NOT NULL,
    topic text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000); -- every row lives for a moment
CREATE INDEX outbox_in_order ON orchestration.outbox (id);

ALTER TABLE orchestration.routes ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestration.routes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orchestration.routes
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

ALTER TABLE orchestration.route_candidates ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestration.route_candidates FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orchestration.route_candidates
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

ALTER TABLE orchestration.route_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestration.route_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orchestration.route_versions
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

ALTER TABLE orchestration.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestration.outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orchestration.outbox
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

-- Routes decide who gets to see a tenant's prompts: the service reads them, a migration or an operator writes them.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON
    orchestration.routes, orchestration.route_candidates, orchestration.route_versions FROM orchestrator_app;

-- As the owner and for all tenants, whoever changes a route: the counter is nobody's to write, and a version that could be
-- missed would leave old routes in memory.
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

-- What the fleet on one machine runs.
INSERT INTO orchestration.routes (tenant_id, model, task) VALUES
    ('*', 'smollm2', 'chat'),
    ('*', 'all-minilm-l6-v2', 'embedding');
INSERT INTO orchestration.route_candidates
    (tenant_id, model, position, upstream, upstream_model, max_output_tokens) VALUES
    ('*', 'smollm2', 0, 'local', 'smollm2-135m-instruct', 1024),
    ('*', 'all-minilm-l6-v2', 0, 'minilm', 'all-minilm-l6-v2', 0);
