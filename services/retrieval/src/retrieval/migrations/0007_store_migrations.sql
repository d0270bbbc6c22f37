-- The embedding model of each vector store, and its change to another model while the store is in use.
--
-- Vectors of one model are a space, and a search reads one space of a store. Space 0 is `chunks.embedding`, where vectors
-- of 384 dimensions stand beside their text. All other spaces are in `chunk_vectors`.

-- '' is the model that the service is set up with; it fills the name in. `next_…` are those of a running migration.
ALTER TABLE vector_stores
    ADD COLUMN embedding_model text NOT NULL DEFAULT '',
    ADD COLUMN space bigint NOT NULL DEFAULT 0,
    ADD COLUMN next_embedding_model text,
    ADD COLUMN next_space bigint,
    -- A row of now, so no scan: both are NULL in all of them.
    ADD CONSTRAINT next_is_whole CHECK (num_nonnulls(next_embedding_model, next_space) IN (0, 2)) NOT VALID;

-- NULL once the store has left space 0.
ALTER TABLE chunks ALTER COLUMN embedding DROP NOT NULL;

CREATE TABLE chunk_vectors (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    space bigint NOT NULL,
    attachment bigint NOT NULL,
    ordinal integer NOT NULL,
    -- As in `chunks`: SHA-256 of model and text.
    fingerprint bytea NOT NULL,
    -- As many dimensions as the model of the space has, the same in all rows of it.
    embedding halfvec NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, space, attachment, ordinal)
);
ALTER TABLE chunk_vectors ALTER COLUMN embedding SET STORAGE PLAIN;
-- As those of chunks and postings, these do not begin with the tenant; see 0002.
CREATE INDEX chunk_vectors_by_fingerprint ON chunk_vectors (fingerprint, tenant_id);
CREATE INDEX chunk_vectors_by_attachment ON chunk_vectors (attachment, tenant_id, ordinal);

-- Changes of a store to another embedding model.
CREATE TABLE store_migrations (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    migration_id text NOT NULL,
    embedding_model text NOT NULL,
    -- Space 1 is that of stores which are made with a model of other than 384 dimensions.
    space bigint NOT NULL GENERATED ALWAYS AS IDENTITY (START WITH 2),
    state text NOT NULL DEFAULT 'in_progress' CHECK (state IN ('in_progress', 'completed', 'failed', 'cancelled')),
    -- The space whose vectors are to be deleted: the old one after the change, the new one after a cancellation.
    retired_space bigint,
    failure_reason text NOT NULL DEFAULT '',
    failure_message text NOT NULL DEFAULT '',
    -- The project and key that started it, and their plan: they pay for its embeddings.
    project_id text NOT NULL,
    key_id text NOT NULL,
    plan text NOT NULL DEFAULT '',
    -- Vectors that it stored: those that were paid for, and those of equal texts that the tenant had already.
    embedded_chunks bigint NOT NULL DEFAULT 0,
    reused_chunks bigint NOT NULL DEFAULT 0,
    -- The lease, as in `attachments`.
    epoch bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    crashes integer NOT NULL DEFAULT 0,
    retries integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, vector_store_id, migration_id),
    FOREIGN KEY (tenant_id, vector_store_id) REFERENCES vector_stores ON DELETE CASCADE
);
CREATE UNIQUE INDEX store_migrations_running ON store_migrations (tenant_id, vector_store_id)
    WHERE state = 'in_progress';
CREATE INDEX store_migrations_due ON store_migrations (due_at)
    WHERE state = 'in_progress' OR retired_space IS NOT NULL;

SELECT isolate_tenants('chunk_vectors', 'store_migrations');

-- Vectors are inserted and deleted, never changed; only the deletion of a space clears those in `chunks`.
DO $$
DECLARE
    app text;
BEGIN
    FOR app IN
        SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'chunk_vectors' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE UPDATE, TRUNCATE ON chunk_vectors FROM %I', app);
        EXECUTE format('GRANT UPDATE (embedding) ON chunks TO %I', app);
    END LOOP;
END $$;
