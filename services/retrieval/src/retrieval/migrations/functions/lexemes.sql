-- The lexemes of chunks and of queries. Databases sort by byte (collation C), where lower() knows ASCII letters only, so the
-- alphabet is given.

-- The number of these rules. Raise it with any change of them: the service then indexes the files of older numbers anew.
CREATE OR REPLACE FUNCTION lexemes_version() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1;

-- The text as words of Postgres' parser: one form of each character, no marks of vowels, codes whole and in parts, and
-- languages that write no spaces in pairs of characters.
CREATE OR REPLACE FUNCTION searchable(content text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (
        WITH folded AS (
            -- Compatible forms are one, so a composed letter is its decomposed one. Arabic marks of vowels and the
            -- lengthening sign are optional in writing, and signs of no width are not seen; U+2010 to U+2015 and U+2212
            -- are dashes.
            SELECT regexp_replace(
                regexp_replace(
                    lower(normalize(content, NFKC) COLLATE pg_catalog.pg_c_utf8),
                    '[\u064B-\u065F\u0670\u0640\u00AD\u200B-\u200F\u2060\uFEFF]', '', 'g'
                ),
                '[\u2010-\u2015\u2212]', '-', 'g'
            ) AS text
        ), broken AS (
            -- "impor-" at the end of a line and "tant" on the next one. It may be "well-known" as well, so the halves stay.
            SELECT coalesce(string_agg(found[1] || found[2], ' '), '') AS words
            FROM folded, regexp_matches(text, '([[:alpha:]]{2,})-[ \t]*\n[ \t]*([[:alpha:]]{2,})', 'g') AS found
        ), codes AS (
            -- "qx-7041" would be "qx" and the number -7041.
            SELECT coalesce(string_agg(replace(found[1], '-', ''), ' '), '') AS whole
            FROM folded, regexp_matches(text, '[[:alnum:]]+(?:-[[:alnum:]]+)+', 'g') AS found
            -- Not "boundary-layer": a word that is counted three times outweighs the others of a query.
            WHERE found[1] ~ '[0-9]|(^|-)[[:alpha:]]{1,2}(-|$)'
        ), pairs AS (
            -- Han, kana, Thai, Lao, Khmer, Burmese, and Hangul, whose words end in particles.
            SELECT coalesce(string_agg(substr(found[1], place, 2), ' '), '') AS words
            FROM folded,
                 regexp_matches(text, '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3041-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3]+', 'g') AS found,
                 generate_series(1, greatest(length(found[1]) - 1, 1)) AS place
        )
        SELECT concat_ws(
            ' ',
            regexp_replace(
                regexp_replace(text, '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3041-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3]+', ' ', 'g'),
                -- Postgres' parser takes "/wing" for a file, "end.Next" for a host and "<x and y>" for markup that it drops.
                '[-/\\@:<>&_~=]|\.(?![0-9])|(?<![0-9])\.', ' ', 'g'
            ),
            whole, pairs.words, broken.words
        ) FROM folded, codes, pairs, broken
    );

CREATE OR REPLACE FUNCTION lexemes(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN to_tsvector('pg_catalog.english', searchable(content));
