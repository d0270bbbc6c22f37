-- The keywords of chunks and of queries. Databases sort by byte (collation C), where lower() knows ASCII letters only, so the
-- alphabet is given.

-- The number of these rules. Raise it with any change of them: the service then indexes the files of older numbers anew.
CREATE OR REPLACE FUNCTION keyword_rules() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 2;

-- The text as words of Postgres' parser: one form of each character, no marks of vowels, codes whole and in parts, and
-- languages that write no spaces in pairs of characters.
CREATE OR REPLACE FUNCTION searchable(content text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (
        WITH folded AS (
            -- Compatible forms are one, so a composed letter is its decomposed one. Arabic marks of vowels and the
            -- lengthening sign are optional in writing, as are the dots of the Russian yo, and signs of no width are not
            -- seen; U+2010 to U+2015 and U+2212 are dashes.
            -- ASCII alone has none of these, and half of the time is theirs.
            SELECT CASE WHEN octet_length(content) = length(content) THEN lower(content COLLATE pg_catalog.pg_c_utf8) ELSE
                regexp_replace(
                    regexp_replace(
                        regexp_replace(
                            translate(lower(normalize(content, NFKC) COLLATE pg_catalog.pg_c_utf8), 'ё', 'е'),
                            '[\u064B-\u065F\u0670\u0640\u00AD\u200B-\u200F\u2060\uFEFF]', '', 'g'
                        ),
                        '[\u2010-\u2015\u2212]', '-', 'g'
                    ),
                    -- Where databases sort by byte, Postgres' parser takes all signs beyond ASCII for letters: “port” and l’avion.
                    '(?=[[:punct:]])[^\u0001-\u007F]', ' ', 'g'
                ) END AS text
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

-- "Haeuser" is "Häuser", but the u of "bauen" and "Quelle" belongs to the sound before it.
CREATE OR REPLACE FUNCTION umlauts(words text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN regexp_replace(replace(replace(words, 'ae', 'ä'), 'oe', 'ö'), '(?<![aeiouyäöüq])ue', 'ü', 'g');

-- Snowball takes the article off, and not the words for "and", "with", "as" and "so" that are written before it.
CREATE OR REPLACE FUNCTION without_particles(words text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN regexp_replace(words, '(^|\s)[وبكف]ال(?=[ء-ي]{2})', '\1ال', 'g');

-- Words of `searchable` in one language; English where there are no rules for it.
CREATE OR REPLACE FUNCTION keywords_in(language text, words text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE language
        WHEN 'arabic' THEN to_tsvector('arabic_words', without_particles(words))
        WHEN 'armenian' THEN to_tsvector('armenian_words', words)
        WHEN 'basque' THEN to_tsvector('basque_words', words)
        WHEN 'catalan' THEN to_tsvector('catalan_words', words)
        WHEN 'danish' THEN to_tsvector('danish_words', words)
        WHEN 'dutch' THEN to_tsvector('dutch_words', words)
        WHEN 'finnish' THEN to_tsvector('finnish_words', words)
        WHEN 'french' THEN to_tsvector('french_words', words)
        WHEN 'german' THEN to_tsvector('german_words', umlauts(words))
        WHEN 'greek' THEN to_tsvector('greek_words', words)
        WHEN 'hindi' THEN to_tsvector('hindi_words', words)
        WHEN 'hungarian' THEN to_tsvector('hungarian_words', words)
        WHEN 'indonesian' THEN to_tsvector('indonesian_words', words)
        WHEN 'irish' THEN to_tsvector('irish_words', words)
        WHEN 'italian' THEN to_tsvector('italian_words', words)
        WHEN 'lithuanian' THEN to_tsvector('lithuanian_words', words)
        WHEN 'nepali' THEN to_tsvector('nepali_words', words)
        WHEN 'norwegian' THEN to_tsvector('norwegian_words', words)
        WHEN 'portuguese' THEN to_tsvector('portuguese_words', words)
        WHEN 'romanian' THEN to_tsvector('romanian_words', words)
        WHEN 'russian' THEN to_tsvector('russian_words', words)
        WHEN 'serbian' THEN to_tsvector('serbian_words', words)
        WHEN 'spanish' THEN to_tsvector('spanish_words', words)
        WHEN 'swedish' THEN to_tsvector('swedish_words', words)
        WHEN 'tamil' THEN to_tsvector('tamil_words', words)
        WHEN 'turkish' THEN to_tsvector('turkish_words', words)
        ELSE to_tsvector('pg_catalog.english', words)
    END;

-- The stems of each word in all of the languages, with the places of the word. No language is English.
CREATE OR REPLACE FUNCTION keywords(content text, languages text[]) RETURNS TABLE (lexeme text, positions smallint[])
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT ROWS 50
BEGIN ATOMIC
    WITH prepared AS MATERIALIZED (SELECT searchable(content) AS words)
    SELECT DISTINCT ON (stem.lexeme) stem.lexeme, stem.positions
    FROM prepared
    CROSS JOIN unnest(coalesce(nullif(languages, '{}'), '{english}')) AS language
    CROSS JOIN unnest(keywords_in(language, words)) AS stem
    -- A stem that two languages have may stand for more words in one of them.
    ORDER BY stem.lexeme, cardinality(stem.positions) DESC;
END;

-- Replicas of the version before index and search by these two, in English alone; their files are indexed anew.
CREATE OR REPLACE FUNCTION lexemes_version() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1;

CREATE OR REPLACE FUNCTION lexemes(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN to_tsvector('pg_catalog.english', searchable(content));
