-- Prompts whose answers the orchestrator has cached, by meaning. `partition` is a digest of all else that shapes an answer.
CREATE TABLE cached_prompts (
    tenant_id text NOT NULL,
    partition bytea NOT NULL,
    entry_id text NOT NULL,
    model text NOT NULL,
    prompt text NOT NULL,
    embedding halfvec(384) NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, partition, entry_id)
);
-- An exact scan reads all embeddings of a partition: they stay in the row, and long prompts leave it.
ALTER TABLE cached_prompts ALTER COLUMN embedding SET STORAGE PLAIN;
ALTER TABLE cached_prompts ALTER COLUMN prompt SET STORAGE EXTERNAL;
ALTER TABLE cached_prompts SET (toast_tuple_target = 1200);
-- The bound of a tenant, and its purge.
CREATE INDEX cached_prompts_of_tenant ON cached_prompts (tenant_id, expires_at);
-- What has expired, of all tenants.
CREATE INDEX cached_prompts_expired ON cached_prompts (expires_at);

SELECT isolate_tenants('cached_prompts');
