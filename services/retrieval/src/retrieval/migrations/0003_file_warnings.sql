-- What of a file is not searchable although it is indexed: [{"code": …, "message": …}], written when it completes.
ALTER TABLE attachments ADD COLUMN warnings jsonb NOT NULL DEFAULT '[]';
