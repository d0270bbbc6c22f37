-- The languages of files and of stores, by their names in Postgres. None is English, and the language of files that are not indexed anew yet.

ALTER TABLE attachments ADD COLUMN languages text[] NOT NULL DEFAULT '{}';
-- Those of all files that are or were in the store, so that a search reads one row instead of one for each file.
ALTER TABLE vector_stores ADD COLUMN languages text[] NOT NULL DEFAULT '{}';

-- Stems of Snowball. Only the stop words of English are left out, in all languages: "die" of a German query is a word of
-- English files as well, and a word that is left out of some files would be taken for a rare one.
DO $$
DECLARE
    language text;
BEGIN
    FOREACH language IN ARRAY ARRAY[
        'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'finnish', 'french', 'german', 'greek', 'hindi',
        'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian', 'portuguese', 'romanian',
        'russian', 'serbian', 'spanish', 'swedish', 'tamil', 'turkish'
    ] LOOP
        EXECUTE format(
            'CREATE TEXT SEARCH DICTIONARY %I (TEMPLATE = pg_catalog.snowball, language = %I, stopwords = english)',
            language || '_words', language
        );
        EXECUTE format('CREATE TEXT SEARCH CONFIGURATION %I (COPY = pg_catalog.english)', language || '_words');
        -- Words of Latin letters in texts of another script are English ones.
        EXECUTE format(
            'ALTER TEXT SEARCH CONFIGURATION %I ALTER MAPPING FOR %s WITH %I',
            language || '_words',
            CASE WHEN language IN ('arabic', 'armenian', 'greek', 'hindi', 'nepali', 'russian', 'tamil')
                THEN 'word, hword, hword_part' ELSE 'asciiword, word, asciihword, hword, hword_asciipart, hword_part' END,
            language || '_words'
        );
    END LOOP;
END $$;
