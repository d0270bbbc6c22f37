-- Files, vector stores, attachments, and the index of their chunks. Every table begins with the tenant.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

CREATE TABLE files (
    tenant_id text NOT NULL,
    file_id text NOT NULL,
    filename text NOT NULL,
    purpose text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, file_id)
);

CREATE TABLE vector_stores (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, vector_store_id)
);

-- A file in a store and the state of its ingestion. `attachment` is a number: a file that is detached and attached again
-- gets a new one, so the chunks of the old attachment can be deleted later without those of the new one.
CREATE TABLE attachments (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    file_id text NOT NULL,
    attachment bigint GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL DEFAULT 'in_progress' CHECK (state IN ('in_progress', 'completed', 'failed')),
    failure_reason text NOT NULL DEFAULT '',
    failure_message text NOT NULL DEFAULT '',
    -- The project and key that attached the file: they pay for its embeddings.
    project_id text NOT NULL,
    key_id text NOT NULL,
    -- The cursors: chunks that are stored, and of those the chunks whose lexemes are in `postings`.
    chunks integer NOT NULL DEFAULT 0,
    indexed_chunks integer NOT NULL DEFAULT 0,
    lexeme_count bigint NOT NULL DEFAULT 0,
    usage_bytes bigint NOT NULL DEFAULT 0,
    -- The lease, see chassis.postgres.leases: the row can be claimed from `due_at` on, and `epoch` fences writes.
    epoch bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    crashes integer NOT NULL DEFAULT 0,
    retries integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, vector_store_id, file_id),
    FOREIGN KEY (tenant_id, vector_store_id) REFERENCES vector_stores,
    FOREIGN KEY (tenant_id, file_id) REFERENCES files
);
CREATE UNIQUE INDEX attachments_by_number ON attachments (tenant_id, attachment);
CREATE INDEX attachments_by_file ON attachments (tenant_id, file_id);
CREATE INDEX attachments_unfinished ON attachments (tenant_id, vector_store_id) WHERE state <> 'completed';
CREATE INDEX attachments_due ON attachments (due_at) WHERE state = 'in_progress';

-- No foreign keys from here on: the chunks of an attachment are deleted after it, a thousand at a time.
CREATE TABLE chunks (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    attachment bigint NOT NULL,
    ordinal integer NOT NULL,
    page integer NOT NULL,
    text text NOT NULL,
    -- SHA-256 of model and text: equal texts are embedded once per tenant.
    fingerprint bytea NOT NULL,
    embedding halfvec(384) NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, attachment, ordinal)
);
-- An exact scan reads all embeddings of a store: store them in the row, not in TOAST.
ALTER TABLE chunks ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX chunks_by_fingerprint ON chunks (tenant_id, fingerprint);

-- The inverted index for BM25: chunks by lexeme, with frequencies and the lengths of the chunks. One row per lexeme and
-- thousand chunks, because a row per lexeme and chunk would take ten times the space of the text.
-- Not a GIN index: with row-level security only leakproof operators use an index. @@ and && are not leakproof; text = is.
CREATE TABLE postings (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    lexeme text NOT NULL,
    attachment bigint NOT NULL,
    first_ordinal integer NOT NULL,
    ordinals integer[] NOT NULL,
    frequencies smallint[] NOT NULL,
    lengths smallint[] NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, lexeme, attachment, first_ordinal)
);
CREATE INDEX postings_by_attachment ON postings (tenant_id, vector_store_id, attachment, first_ordinal);

-- Pending deletions of an object, or of an attachment's chunks and postings. Written by the transaction that makes them
-- unreachable. For an object also before its upload: a crash during the upload then leaves no object behind for ever.
CREATE TABLE deletions (
    tenant_id text NOT NULL,
    deletion_id text NOT NULL,
    object_key text,
    vector_store_id text,
    attachment bigint,
    -- The lease, as in `attachments`.
    epoch bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, deletion_id),
    CHECK (num_nonnulls(object_key, attachment) = 1),
    CHECK (num_nonnulls(vector_store_id, attachment) <> 1)
);
CREATE INDEX deletions_due ON deletions (due_at);
CREATE INDEX deletions_by_object ON deletions (tenant_id, object_key) WHERE object_key IS NOT NULL;
CREATE INDEX deletions_by_store ON deletions (tenant_id, vector_store_id) WHERE attachment IS NOT NULL;

CREATE TABLE outbox (
    tenant_id text NOT NULL,
    id text NOT NULL,
    topic text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX outbox_by_id ON outbox (id);

-- A transaction sees and writes the rows of the tenant in `argosy.tenant`; '*' means all tenants.
SELECT isolate_tenants('files', 'vector_stores', 'attachments', 'chunks', 'postings', 'deletions', 'outbox');

-- Chunks and postings are inserted and deleted, never changed.
DO $$
DECLARE
    app text;
BEGIN
    FOR app IN
        SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'chunks' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE UPDATE, TRUNCATE ON chunks, postings FROM %I', app);
    END LOOP;
END $$;
