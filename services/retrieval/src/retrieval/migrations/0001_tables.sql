-- Files, vector stores, what is attached to them, and the index over it.
-- Every table begins with the tenant, and no row of it can be seen or written outside that tenant's transaction.

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

-- A file in a store, and how far its indexing is. `attachment` numbers it: a file that is taken out and put in again gets
-- a new number, so what the old one left behind can be removed later without touching the new one.
CREATE TABLE attachments (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    file_id text NOT NULL,
    attachment bigint GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL DEFAULT 'in_progress' CHECK (state IN ('in_progress', 'completed', 'failed')),
    failure_reason text NOT NULL DEFAULT '',
    failure_message text NOT NULL DEFAULT '',
    -- Who attached it, for the bill of its embeddings.
    project_id text NOT NULL,
    key_id text NOT NULL,
    -- The cursor: so many chunks are stored, and of so many the words are indexed; `words` is their number.
    chunks integer NOT NULL DEFAULT 0,
    worded integer NOT NULL DEFAULT 0,
    words bigint NOT NULL DEFAULT 0,
    usage_bytes bigint NOT NULL DEFAULT 0,
    -- The lease: `epoch` fences the writes of whoever claimed it before; it may be claimed again from `due_at` on.
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

-- No foreign keys from here on: an attachment's chunks may be many, and are removed after it, a thousand at a time.
CREATE TABLE chunks (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    attachment bigint NOT NULL,
    ordinal integer NOT NULL,
    page integer NOT NULL,
    text text NOT NULL,
    -- SHA-256 of model and text: equal text is embedded once per tenant.
    fingerprint bytea NOT NULL,
    embedding halfvec(384) NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, attachment, ordinal)
);
-- An exact scan reads every embedding of a store: keep them in the row, not behind a pointer.
ALTER TABLE chunks ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX chunks_by_fingerprint ON chunks (tenant_id, fingerprint);

-- Which chunks hold a word, how often, and how many words they have: the inverted index that BM25 reads. One row per word
-- and a thousand chunks, because a row per word and chunk would be ten times the text.
-- Not a GIN index: row-level security lets only leakproof operators reach an index, and neither @@ nor && is; text = is.
CREATE TABLE postings (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    word text NOT NULL,
    attachment bigint NOT NULL,
    first_ordinal integer NOT NULL,
    ordinals integer[] NOT NULL,
    frequencies smallint[] NOT NULL,
    lengths smallint[] NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, word, attachment, first_ordinal)
);
CREATE INDEX postings_by_attachment ON postings (tenant_id, vector_store_id, attachment, first_ordinal);

-- What is to be removed: an object, or an attachment's chunks and postings. Written by the transaction that made it
-- superfluous, or, for an object, before it is written: then a crash in between leaves nothing for ever.
CREATE TABLE removals (
    tenant_id text NOT NULL,
    removal_id text NOT NULL,
    object_key text,
    vector_store_id text,
    attachment bigint,
    due_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, removal_id),
    CHECK (num_nonnulls(object_key, attachment) = 1),
    CHECK (num_nonnulls(vector_store_id, attachment) <> 1)
);
CREATE INDEX removals_due ON removals (due_at);
CREATE INDEX removals_by_object ON removals (tenant_id, object_key) WHERE object_key IS NOT NULL;
CREATE INDEX removals_by_store ON removals (tenant_id, vector_store_id) WHERE attachment IS NOT NULL;

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

-- How text becomes words, in one place for what is indexed and what is asked. The database sorts by byte (collation C), which
-- knows no capital letters beyond ASCII: lower() is told the alphabet.
CREATE FUNCTION words(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN to_tsvector('pg_catalog.english', lower(content COLLATE pg_catalog.pg_c_utf8));

ALTER TABLE files ENABLE ROW LEVEL SECURITY;
ALTER TABLE files FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON files
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
ALTER TABLE vector_stores ENABLE ROW LEVEL SECURITY;
ALTER TABLE vector_stores FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON vector_stores
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
ALTER TABLE attachments ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON attachments
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
ALTER TABLE chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON chunks
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
ALTER TABLE postings ENABLE ROW LEVEL SECURITY;
ALTER TABLE postings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON postings
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
ALTER TABLE removals ENABLE ROW LEVEL SECURITY;
ALTER TABLE removals FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON removals
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outbox
    USING (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*')
    WITH CHECK (tenant_id = current_setting('argosy.tenant', true) OR current_setting('argosy.tenant', true) = '*');

-- What is indexed is written and removed, never changed; only this migration's owner may.
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
