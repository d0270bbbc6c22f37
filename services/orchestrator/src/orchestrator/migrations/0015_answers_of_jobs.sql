-- Answers are stored as they are: to compress one of 90 MiB of vectors took most of the time that a statement has.
-- Those of a few kilobytes take more room than before, until they expire.
-- locks: only the catalogue changes; partitions have the setting of their parent, those that are there too.
ALTER TABLE orchestration.finished_jobs ALTER COLUMN result SET STORAGE EXTERNAL;
