-- How a file is split, in tokens: NULL for files that were attached before it could be chosen.
ALTER TABLE attachments ADD COLUMN max_chunk_tokens integer, ADD COLUMN chunk_overlap_tokens integer;
