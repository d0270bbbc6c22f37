-- Classes of tokens: what each costs, and what was paid for each.

-- Null: the class has no price of its own, and falls back to that of input or output (values.money.ClassPrices).
ALTER TABLE metering.prices
    ADD COLUMN cached_input_per_million bigint CHECK (cached_input_per_million BETWEEN 0 AND 1000000000000000),
    ADD COLUMN cache_write_per_million bigint CHECK (cache_write_per_million BETWEEN 0 AND 1000000000000000),
    ADD COLUMN cache_write_1h_per_million bigint CHECK (cache_write_1h_per_million BETWEEN 0 AND 1000000000000000),
    ADD COLUMN audio_input_per_million bigint CHECK (audio_input_per_million BETWEEN 0 AND 1000000000000000),
    ADD COLUMN image_input_per_million bigint CHECK (image_input_per_million BETWEEN 0 AND 1000000000000000),
    ADD COLUMN reasoning_output_per_million bigint CHECK (reasoning_output_per_million BETWEEN 0 AND 1000000000000000),
    ADD COLUMN audio_output_per_million bigint CHECK (audio_output_per_million BETWEEN 0 AND 1000000000000000);

-- `input_cost` is the part of `cost` for what was read; null where nothing was known, and in rows from before.
-- `classes` are the tokens that are not text, as {"<class>": [tokens, cost]}; null when all are text.
ALTER TABLE metering.settlements
    ADD COLUMN input_cost bigint CHECK (input_cost BETWEEN 0 AND cost),
    ADD COLUMN classes jsonb;

-- Tokens and cost of settlements whose classes are kept. What is not in usage_classes_daily of them is text.
ALTER TABLE metering.usage_daily
    ADD COLUMN classed_input_tokens bigint NOT NULL DEFAULT 0 CHECK (classed_input_tokens >= 0),
    ADD COLUMN classed_output_tokens bigint NOT NULL DEFAULT 0 CHECK (classed_output_tokens >= 0),
    ADD COLUMN input_cost bigint NOT NULL DEFAULT 0 CHECK (input_cost >= 0),
    ADD COLUMN output_cost bigint NOT NULL DEFAULT 0 CHECK (output_cost >= 0);

-- Daily roll-up of tokens that are not text.
CREATE TABLE metering.usage_classes_daily (
    tenant_id text NOT NULL,
    day date NOT NULL, -- UTC day of settled_at
    price_key text NOT NULL,
    class text NOT NULL,
    tokens bigint NOT NULL CHECK (tokens >= 0),
    cost bigint NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (tenant_id, day, price_key, class)
);
SELECT isolate_tenants('metering.usage_classes_daily');
REVOKE DELETE, TRUNCATE ON metering.usage_classes_daily FROM metering_app;
