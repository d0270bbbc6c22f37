-- Dispatched jobs that no worker has claimed: offered to workers that ask.
CREATE INDEX jobs_dispatched ON orchestration.jobs (pool) WHERE state = 'dispatched';
-- Jobs that came back once from a worker that died: they are dispatched before others.
CREATE INDEX jobs_returned ON orchestration.jobs (pool, state, due_at)
    WHERE crashes = 1 AND state IN ('queued', 'dispatched');
