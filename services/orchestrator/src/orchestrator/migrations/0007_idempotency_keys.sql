-- What clients' idempotency keys stand for: the id is chosen before the request is carried out, and kept when it is not.
CREATE TABLE orchestration.idempotency_keys (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    -- The API key: each has keys of its own.
    key_id text NOT NULL,
    resource text NOT NULL CHECK (resource IN ('job', 'batch')),
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    resource_id text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_id, resource, idempotency_key)
);
CREATE INDEX idempotency_keys_expired ON orchestration.idempotency_keys (expires_at);

SELECT isolate_tenants('orchestration.idempotency_keys');
