-- A store may expire some days after it was last searched or filled. What was in it is deleted then; the store stays, and
-- has `expired_at`.
ALTER TABLE vector_stores
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN expires_after_days integer,
    ADD COLUMN last_active_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN expired_at timestamptz;
-- locks: one row a store, and none of them has days yet.
CREATE INDEX vector_stores_expiring ON vector_stores (last_active_at)
    WHERE expires_after_days IS NOT NULL AND expired_at IS NULL;
