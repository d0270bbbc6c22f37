-- Answers of the response cache: which settlements are one, what they saved, and what the cache did by model.

ALTER TABLE metering.settlements
    ADD COLUMN cache text NOT NULL DEFAULT '' CHECK (cache IN ('', 'hit', 'semantic', 'stale')),
    ADD COLUMN saved bigint NOT NULL DEFAULT 0 CHECK (saved >= 0);
ALTER TABLE metering.usage_daily
    ADD COLUMN cache_hits bigint NOT NULL DEFAULT 0 CHECK (cache_hits >= 0),
    ADD COLUMN saved bigint NOT NULL DEFAULT 0 CHECK (saved >= 0);

-- Daily roll-up of requests that asked the cache, by public model name.
CREATE TABLE metering.cache_daily (
    tenant_id text NOT NULL,
    day date NOT NULL, -- UTC day of settled_at
    model text NOT NULL,
    lookups bigint NOT NULL CHECK (lookups >= 0),
    hits bigint NOT NULL CHECK (hits >= 0),
    semantic_hits bigint NOT NULL CHECK (semantic_hits >= 0),
    stale_hits bigint NOT NULL CHECK (stale_hits >= 0),
    cost bigint NOT NULL CHECK (cost >= 0),
    saved bigint NOT NULL CHECK (saved >= 0),
    PRIMARY KEY (tenant_id, day, model)
);
SELECT isolate_tenants('metering.cache_daily');
REVOKE DELETE, TRUNCATE ON metering.cache_daily FROM metering_app;

-- contract: `functions/` makes it again at once, with one more argument that has a default: older callers go on.
DROP FUNCTION IF EXISTS metering.finish_settlement(jsonb, text[], bigint[], bigint[], bigint[], jsonb);
