-- Which files and vector stores were deleted, and where their parts were: a report counts what of them is left.
CREATE TABLE deletion_records (
    tenant_id text NOT NULL,
    -- "file-…" or "vs_…".
    resource_id text NOT NULL,
    -- The stores, with the numbers of the attachments that were deleted with it, in the same order.
    vector_store_ids text[] NOT NULL,
    attachments bigint[] NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, resource_id)
);
CREATE INDEX deletion_records_by_time ON deletion_records (deleted_at);

SELECT isolate_tenants('deletion_records');
