-- Models that score documents have routes, too. Make such a route when every orchestrator runs this version.
-- contract: the check that is replaced allowed less
ALTER TABLE orchestration.routes DROP CONSTRAINT routes_task_check;
-- locks: routes are few
ALTER TABLE orchestration.routes
    ADD CONSTRAINT routes_task_check CHECK (task IN ('chat', 'embedding', 'rerank'));
