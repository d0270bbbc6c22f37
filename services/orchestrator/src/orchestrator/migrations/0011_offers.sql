-- Dispatched jobs that no worker has claimed: offered to workers that ask.
-- locks: only jobs that are not final are in the table.
CREATE INDEX jobs_dispatched ON orchestration.jobs (pool) WHERE state = 'dispatched';
-- Jobs that came back once from a worker that died: they are dispatched before others.
-- locks: only jobs that are not final are in the table.
CREATE INDEX jobs_returned ON orchestration.jobs (pool, state, due_at)
    WHERE crashes = 1 AND state IN ('queued', 'dispatched');
