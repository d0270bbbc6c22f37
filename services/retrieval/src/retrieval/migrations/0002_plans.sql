-- Plans that are good for a store of ten files and of ten thousand, whatever the statistics know.
--
-- A tenant that is new since the last ANALYZE is in no statistics, and the planner takes all its rows for one. Every index
-- that begins with the tenant then looks equally good, and a statement may read the whole tenant for each of its rows.

-- Without statistics of these columns, the planner assumes the same share of the table for every tenant and store. Not for
-- chunks: the choice between an exact scan and an HNSW index needs the size of the store.
DO $$
DECLARE
    owned record;
BEGIN
    FOR owned IN
        SELECT * FROM (VALUES ('attachments', 'tenant_id'), ('attachments', 'vector_store_id'), ('postings', 'tenant_id'),
                              ('postings', 'vector_store_id')) AS v (name, owner_column)
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STATISTICS 0', owned.name, owned.owner_column);
        -- ANALYZE keeps the statistics that it no longer gathers. Before Postgres 18 only a superuser can delete them.
        IF to_regprocedure('pg_catalog.pg_clear_attribute_stats(text, text, text, boolean)') IS NOT NULL THEN
            PERFORM pg_catalog.pg_clear_attribute_stats(current_schema()::text, owned.name, owned.owner_column, false);
        END IF;
    END LOOP;
END $$;

-- These two do not begin with the tenant, so that no statement about a store can use them.
DROP INDEX chunks_by_fingerprint;
CREATE INDEX chunks_by_fingerprint ON chunks (fingerprint, tenant_id);
DROP INDEX postings_by_attachment;
CREATE INDEX postings_by_attachment ON postings (attachment, tenant_id, first_ordinal);

-- For pages of a store's files: the index by number alone would read the newer files of all other stores.
CREATE INDEX attachments_by_store ON attachments (tenant_id, vector_store_id, attachment);
