-- Jobs that have crashed twice: one of them at a time is in flight in a pool.
CREATE INDEX jobs_suspected ON orchestration.jobs (pool, state, due_at) WHERE crashes >= 2;
