-- What right-sizing saves: calls of cheap candidates, beside the price of the candidate that would have been tried first.

-- All three are null but for calls of cheap candidates. `right_sizing_saved` is negative where more was paid.
ALTER TABLE metering.settlements
    ADD COLUMN right_sizing_saved bigint,
    ADD COLUMN alternative_key text,
    ADD COLUMN alternative_version text;
ALTER TABLE metering.usage_daily ADD COLUMN right_sizing_saved bigint NOT NULL DEFAULT 0;

-- Daily roll-up of easy requests that called a cheap candidate, by public model name.
CREATE TABLE metering.right_sizing_daily (
    tenant_id text NOT NULL,
    day date NOT NULL, -- UTC day of settled_at
    model text NOT NULL,
    requests bigint NOT NULL CHECK (requests >= 0),
    answered bigint NOT NULL CHECK (answered >= 0),
    cost bigint NOT NULL CHECK (cost >= 0),
    saved bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, model)
);
SELECT isolate_tenants('metering.right_sizing_daily');
REVOKE DELETE, TRUNCATE ON metering.right_sizing_daily FROM metering_app;

-- contract: `functions/` makes it again at once, with one more argument that has a default: older callers go on.
DROP FUNCTION IF EXISTS metering.finish_settlement(jsonb, text[], bigint[], bigint[], bigint[], jsonb, jsonb);
