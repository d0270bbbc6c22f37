-- The lexemes of chunks and of queries. Databases sort by byte (collation C), where lower() knows ASCII letters only, so the
-- alphabet is given.
CREATE OR REPLACE FUNCTION lexemes(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN to_tsvector('pg_catalog.english', lower(content COLLATE pg_catalog.pg_c_utf8));
