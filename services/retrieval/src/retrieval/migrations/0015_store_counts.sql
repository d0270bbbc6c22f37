-- What a search needs to know of all files of a store, without reading them.
--
-- Chunks and words of the completed files of each store, kept by triggers. A store has up to eight rows, whose sum counts:
-- each connection adds to one of them, so that files which complete at the same time seldom wait for each other.
CREATE TABLE store_counts (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    shard smallint NOT NULL,
    chunks bigint NOT NULL,
    lexemes bigint NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, shard)
);
-- A page keeps room for the next version of its rows, so that the index does not grow with every file.
ALTER TABLE store_counts SET (fillfactor = 50);

-- Of how many chunks of a large store the common words are, as they were when they were last counted.
CREATE TABLE common_lexemes (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    lexeme text NOT NULL,
    chunks bigint NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id, lexeme)
);
-- What the store held then, and when it is counted anew at the earliest.
CREATE TABLE lexeme_counts (
    tenant_id text NOT NULL,
    vector_store_id text NOT NULL,
    chunks bigint NOT NULL DEFAULT 0,
    lexemes bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, vector_store_id)
);
SELECT isolate_tenants('store_counts', 'common_lexemes', 'lexeme_counts');

-- No foreign key to vector_stores: its check would lock the store after the file, and a deletion locks the store first.
-- Stores are locked in one order, so that two deletions of files in the same stores do not wait for each other for ever.
CREATE FUNCTION count_files() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO store_counts AS c (tenant_id, vector_store_id, shard, chunks, lexemes)
    SELECT tenant_id, vector_store_id, pg_backend_pid() % 8, sign * sum(chunks), sign * sum(lexeme_count)
    FROM changed WHERE state = 'completed' GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (tenant_id, vector_store_id, shard)
    DO UPDATE SET chunks = c.chunks + excluded.chunks, lexemes = c.lexemes + excluded.lexemes;
    RETURN NULL;
END $$;

CREATE FUNCTION count_changed_files() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO store_counts AS c (tenant_id, vector_store_id, shard, chunks, lexemes)
    SELECT tenant_id, vector_store_id, pg_backend_pid() % 8, sum(chunks), sum(lexemes) FROM (
        SELECT tenant_id, vector_store_id, chunks, lexeme_count AS lexemes FROM after WHERE state = 'completed'
        UNION ALL
        SELECT tenant_id, vector_store_id, -chunks, -lexeme_count FROM before WHERE state = 'completed'
    ) AS changes GROUP BY 1, 2 HAVING sum(chunks) <> 0 OR sum(lexemes) <> 0 ORDER BY 1, 2
    ON CONFLICT (tenant_id, vector_store_id, shard)
    DO UPDATE SET chunks = c.chunks + excluded.chunks, lexemes = c.lexemes + excluded.lexemes;
    RETURN NULL;
END $$;

CREATE FUNCTION drop_store_counts() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM store_counts c USING changed s
    WHERE c.tenant_id = s.tenant_id AND c.vector_store_id = s.vector_store_id;
    DELETE FROM common_lexemes c USING changed s
    WHERE c.tenant_id = s.tenant_id AND c.vector_store_id = s.vector_store_id;
    DELETE FROM lexeme_counts c USING changed s
    WHERE c.tenant_id = s.tenant_id AND c.vector_store_id = s.vector_store_id;
    RETURN NULL;
END $$;

-- Triggers, so that processes of the version before count, too.
-- locks: writers of stores and files wait until the sums below are committed; one row a file is read for them, some
-- hundred thousand in a second. The store's lock comes first, as where a file is attached, so that neither waits for the
-- other for ever.
CREATE TRIGGER drop_counts AFTER DELETE ON vector_stores REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION drop_store_counts();
CREATE TRIGGER count_added AFTER INSERT ON attachments REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_files();
CREATE TRIGGER count_removed AFTER DELETE ON attachments REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_files();
CREATE TRIGGER count_changed AFTER UPDATE ON attachments REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_files();

INSERT INTO store_counts (tenant_id, vector_store_id, shard, chunks, lexemes)
SELECT tenant_id, vector_store_id, 0, sum(chunks), sum(lexeme_count)
FROM attachments WHERE state = 'completed' GROUP BY 1, 2;
