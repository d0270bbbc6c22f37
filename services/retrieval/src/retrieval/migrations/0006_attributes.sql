-- What the tenant says of a file in a store, for filters of searches: {"year": 2024, "author": "ada"}.
ALTER TABLE attachments ADD COLUMN attributes jsonb NOT NULL DEFAULT '{}';
