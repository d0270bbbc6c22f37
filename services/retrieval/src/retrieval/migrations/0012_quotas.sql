-- The plan of who attached the file, whose quota its chunks are counted against.
ALTER TABLE attachments ADD COLUMN plan text NOT NULL DEFAULT '';
