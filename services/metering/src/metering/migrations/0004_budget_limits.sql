-- Events about budgets: since when a limit is reached, what is to be told of it, and the outbox.

-- Set once, and cleared when the cap is changed.
ALTER TABLE metering.budgets ADD COLUMN soft_limit_at timestamptz, ADD COLUMN hard_limit_at timestamptz;

-- Written by the transaction in which a limit is reached; a message is made of each, and put into the outbox, soon after.
CREATE TABLE metering.budget_notices (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    notice_id uuid NOT NULL DEFAULT gen_random_uuid(),
    limit_kind text NOT NULL CHECK (limit_kind IN ('soft', 'hard')),
    percent integer NOT NULL,
    cap bigint NOT NULL,
    spent bigint NOT NULL,
    held bigint NOT NULL,
    exposed bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, notice_id)
);

-- Transactional outbox. The relay publishes events in the order of their ids.
CREATE TABLE metering.outbox (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    id text NOT NULL,
    topic text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX outbox_in_order ON metering.outbox (id);
SELECT isolate_tenants('metering.budget_notices', 'metering.outbox');

-- It has one more argument, with a default; `functions/` makes it again.
DROP FUNCTION IF EXISTS metering.reserve(text[], text[], bigint[], interval[], jsonb[], text[], text[], text[], bigint);
