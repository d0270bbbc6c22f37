-- How routes choose among their candidates. Empty documents are the defaults, which keep the order of the positions.
ALTER TABLE orchestration.routes
    ADD COLUMN version bigint NOT NULL DEFAULT 0, -- of the configuration, with its last change; 0: before they were kept
    ADD COLUMN policy jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(policy) = 'object');
ALTER TABLE orchestration.route_candidates
    -- When it is tried: in its turn, or only after another has refused the request for this reason.
    ADD COLUMN role text NOT NULL DEFAULT 'primary' CHECK (role IN ('primary', 'context_overflow', 'content_policy')),
    -- Weight, priority, conditions and capabilities.
    ADD COLUMN options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object');

-- Operators change routes by the API: the service writes them, for administrators only, and logs each change.
GRANT INSERT, UPDATE, DELETE ON orchestration.routes, orchestration.route_candidates TO orchestrator_app;
