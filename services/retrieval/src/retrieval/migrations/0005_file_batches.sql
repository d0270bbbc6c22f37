-- Files that were attached to a vector store together, to be awaited, listed and cancelled as one.
CREATE TABLE file_batches (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    batch_id text NOT NULL,
    cancelled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, vector_store_id, batch_id),
    FOREIGN KEY (tenant_id, vector_store_id) REFERENCES vector_stores ON DELETE CASCADE
);

-- A file stays in its batch when it is taken out of the store, so that the number of files does not change.
CREATE TABLE file_batch_members (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    batch_id text NOT NULL,
    file_id text NOT NULL,
    -- The attachment that this batch made; NULL for a file that was in the store before. Only these can be cancelled.
    attachment bigint,
    PRIMARY KEY (tenant_id, vector_store_id, batch_id, file_id),
    FOREIGN KEY (tenant_id, vector_store_id, batch_id) REFERENCES file_batches ON DELETE CASCADE
);

-- A transaction sees and writes the rows of the tenant in `argosy.tenant`; '*' means all tenants.
SELECT isolate_tenants('file_batches', 'file_batch_members');
