-- By which version of the rules in functions/lexemes.sql the words of a file were found. Files of an older one are indexed
-- anew in the background, a thousand chunks at a time; 0 is any version before the first number.
ALTER TABLE attachments ADD COLUMN lexeme_version integer NOT NULL DEFAULT 0;
-- Not a partial index: without statistics, searches would read it for all completed files of a store.
-- locks: one row a file, and small.
CREATE INDEX attachments_by_lexeme_version ON attachments (lexeme_version);
