-- The books: prices, budgets, reservations, settlements, the ledger, the daily roll-up.
-- Amounts are nano-USD (bigint), prices are nano-USD per million tokens.

-- Prices: effective-dated and immutable. Tenant '*' is the price for everybody; a row of a tenant's own overrides it.
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
ALTER TABLE metering.prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.prices FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.prices FOR ALL
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
-- Every tenant pays the price for everybody, so every tenant may read it.
CREATE POLICY everybody ON metering.prices FOR SELECT USING (tenant_id = '*');

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
    -- The promise itself. Written as a difference because the sum could overflow.
    CONSTRAINT budgets_within_cap CHECK (spent <= cap AND held <= cap - spent)
) WITH (fillfactor = 50); -- every reservation updates its row: room for HOT updates
ALTER TABLE metering.budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.budgets
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

-- Reservations: money set aside for one request. `held` is what was held at first; `state` says whether it still is.
-- No bounds: a usage event came for a request that never reserved.
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
CREATE INDEX reservations_overdue ON metering.reservations (expires_at) WHERE state = 'held';
ALTER TABLE metering.reservations ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.reservations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.reservations
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

-- Settlements: the end of each provider call. Attempt 0 speaks for the request as a whole: released when no call was
-- made, exposed when the lease ran out, released again when a late event took that back.
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
    CONSTRAINT settlements_only_billed_is_paid CHECK (outcome = 'billed' OR cost = 0),
    CONSTRAINT settlements_released_costs_nobody CHECK (outcome <> 'released' OR exposed = 0)
);
CREATE INDEX settlements_by_time ON metering.settlements (tenant_id, settled_at);
ALTER TABLE metering.settlements ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.settlements FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.settlements
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

-- The ledger: double entry, append only.
CREATE TABLE metering.ledger_transactions (
    tenant_id text NOT NULL,
    transaction_id text NOT NULL,
    request_id text,
    attempt integer,
    kind text NOT NULL CHECK (kind IN ('settlement', 'expiry', 'correction')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, transaction_id),
    -- Nothing is booked twice, whatever is delivered twice.
    CONSTRAINT ledger_books_each_attempt_once UNIQUE (tenant_id, request_id, attempt, kind)
);
ALTER TABLE metering.ledger_transactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.ledger_transactions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.ledger_transactions
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

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
CREATE INDEX ledger_entries_by_time ON metering.ledger_entries USING brin (created_at);
ALTER TABLE metering.ledger_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.ledger_entries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.ledger_entries
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

-- What GetUsage reads: kept by the transaction that settles, so that it never disagrees with the settlements.
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
ALTER TABLE metering.usage_daily ENABLE ROW LEVEL SECURITY;
ALTER TABLE metering.usage_daily FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metering.usage_daily
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
