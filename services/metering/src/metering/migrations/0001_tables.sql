-- Tables: prices, budgets, reservations, settlements, the ledger, the daily roll-up.
-- Amounts are nano-USD (bigint), prices are nano-USD per million tokens. A session sees the rows of the tenant in
-- `argosy.tenant`; '*' sees all (grouped transactions, the sweeper, the audit).

-- Prices: effective-dated and immutable. A row of tenant '*' applies to all tenants; a row of a tenant's own overrides it.
CREATE TABLE metering.prices (
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    version text NOT NULL CHECK (version <> ''),
    price_key text NOT NULL CHECK (price_key ~ '^[^/]+/.+$'),
    input_per_million bigint NOT NULL CHECK (input_per_million BETWEEN 0 AND 1000000000000000),
    output_per_million bigint NOT NULL CHECK (output_per_million BETWEEN 0 AND 1000000000000000),
    effective_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version),
    UNIQUE (tenant_id, price_key, effective_at)
);
SELECT isolate_tenants('metering.prices');
-- Every tenant pays the prices of tenant '*', so every tenant may read them.
CREATE POLICY all_tenants ON metering.prices FOR SELECT USING (tenant_id = '*');

-- Budgets: one row per limit. Only the scope 'tenant' is used yet (scope_id = tenant_id).
CREATE TABLE metering.budgets (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    scope text NOT NULL CHECK (scope IN ('tenant', 'project', 'user', 'key')),
    scope_id text NOT NULL,
    cap bigint NOT NULL CHECK (cap >= 0),
    spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, scope, scope_id),
    -- The invariant of budgets. Written as a difference because the sum could overflow.
    CONSTRAINT budgets_within_cap CHECK (spent <= cap AND held <= cap - spent)
) WITH (fillfactor = 50); -- every reservation updates a budget: space on its page allows HOT updates
SELECT isolate_tenants('metering.budgets');

-- Reservations: money held for one request. `held` is the amount at first and never changes; `state` tells whether it is
-- still held. A row with empty bounds was made by the usage event of a request that had no reservation.
CREATE TABLE metering.reservations (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    request_id text NOT NULL CHECK (request_id <> ''),
    state text NOT NULL CHECK (state IN ('held', 'settled', 'expired')),
    held bigint NOT NULL CHECK (held >= 0),
    bounds jsonb NOT NULL,
    project_id text NOT NULL DEFAULT '',
    key_id text NOT NULL DEFAULT '',
    user_id text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX reservations_held_by_expiry ON metering.reservations (expires_at) WHERE state = 'held';
SELECT isolate_tenants('metering.reservations');

-- Settlements: one row per provider call. Attempt 0 stands for the request itself: released when it made no call, exposed
-- when its lease expired, released again when a late usage event corrected that.
CREATE TABLE metering.settlements (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    attempt integer NOT NULL CHECK (attempt >= 0),
    outcome text NOT NULL CHECK (outcome IN ('billed', 'released', 'exposed')),
    usage_source text NOT NULL CHECK (usage_source IN ('reported', 'counted', 'unknown')),
    input_tokens bigint CHECK (input_tokens >= 0),
    output_tokens bigint CHECK (output_tokens >= 0),
    price_key text NOT NULL,
    price_version text NOT NULL,
    cost bigint NOT NULL CHECK (cost >= 0),
    exposed bigint NOT NULL CHECK (exposed >= 0),
    event_id text NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id, attempt),
    FOREIGN KEY (tenant_id, request_id) REFERENCES metering.reservations,
    CONSTRAINT settlements_cost_only_if_billed CHECK (outcome = 'billed' OR cost = 0),
    CONSTRAINT settlements_released_is_not_exposed CHECK (outcome <> 'released' OR exposed = 0)
);
CREATE INDEX settlements_by_time ON metering.settlements (tenant_id, settled_at);
SELECT isolate_tenants('metering.settlements');

-- The ledger: double entry, append only.
CREATE TABLE metering.ledger_transactions (
    tenant_id text NOT NULL,
    transaction_id text NOT NULL,
    request_id text,
    attempt integer,
    kind text NOT NULL CHECK (kind IN ('settlement', 'expiry', 'correction')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, transaction_id),
    -- A usage event that is delivered twice is posted once.
    CONSTRAINT ledger_posts_each_attempt_once UNIQUE (tenant_id, request_id, attempt, kind)
);
SELECT isolate_tenants('metering.ledger_transactions');

CREATE TABLE metering.ledger_entries (
    tenant_id text NOT NULL,
    transaction_id text NOT NULL,
    line smallint NOT NULL CHECK (line >= 1),
    account text NOT NULL CHECK (account IN ('receivable', 'revenue', 'exposure', 'suspense')),
    amount bigint NOT NULL CHECK (amount <> 0), -- positive is a debit
    price_version text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, transaction_id, line),
    FOREIGN KEY (tenant_id, transaction_id) REFERENCES metering.ledger_transactions
);
-- The audit reads the newest entries by this index, and reads block ranges that are not summarized completely each time.
CREATE INDEX ledger_entries_by_time ON metering.ledger_entries USING brin (created_at) WITH (autosummarize = on);
SELECT isolate_tenants('metering.ledger_entries');

-- Daily roll-up for GetUsage. The transaction that settles updates it, so it always agrees with the settlements.
CREATE TABLE metering.usage_daily (
    tenant_id text NOT NULL,
    day date NOT NULL, -- UTC day of settled_at
    price_key text NOT NULL,
    calls bigint NOT NULL CHECK (calls >= 0),
    input_tokens bigint NOT NULL CHECK (input_tokens >= 0),
    output_tokens bigint NOT NULL CHECK (output_tokens >= 0),
    cost bigint NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (tenant_id, day, price_key)
);
SELECT isolate_tenants('metering.usage_daily');
