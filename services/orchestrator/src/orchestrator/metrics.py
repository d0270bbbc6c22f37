"""Every metric of the orchestrator. No label names a tenant: usage by tenant is metering's."""

from chassis.telemetry import counter, gauge, histogram

GENERATIONS = counter(
    "orchestrator_generations_total",
    "Chat completions by outcome: answered, interrupted (after the first byte), cancelled (by the client) or kind.",
    ("outcome",),
)
GENERATION_SECONDS = histogram("orchestrator_generation_seconds", "Time from the request to the end of its answer.")
FIRST_CHUNK_SECONDS = histogram(
    "orchestrator_first_chunk_seconds", "Time from the request to the first chunk of its answer."
)
EMBEDDINGS = counter(
    "orchestrator_embeddings_total",
    "Embedding requests by outcome: answered, cancelled (by the caller), or error kind.",
    ("outcome",),
)
RERANKS = counter(
    "orchestrator_reranks_total",
    "Requests for scores of documents by outcome: answered, cancelled (by the caller), or error kind.",
    ("outcome",),
)
TOKENS = counter("orchestrator_tokens_total", "Tokens of finished requests, input and output.", ("direction",))
RESERVE_SECONDS = histogram("orchestrator_reserve_seconds", "Time that metering took to reserve or refuse.")
RETRIEVAL_SECONDS = histogram("orchestrator_retrieval_seconds", "Time that retrieval took to find context or fail.")
USAGE_WRITE_BATCH = histogram(
    "orchestrator_usage_write_batch_events",
    "Usage events written to the outbox by one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
USAGE_WRITE_SECONDS = histogram("orchestrator_usage_write_seconds", "Time of one such transaction.")
USAGE_RETRYING = gauge("orchestrator_usage_events_retrying", "Usage events being retried in the background.")
IN_FLIGHT = gauge(
    "orchestrator_tasks_in_flight",
    "Requests and usage events in progress, as limited by ORCHESTRATOR_LIMITS__IN_FLIGHT.",
)
DETACHED = gauge("orchestrator_detached_plans", "Plans that run to their end although the client has disconnected.")
OUTBOX_PENDING = gauge("orchestrator_outbox_pending", "Usage events in the outbox that Kafka has not acknowledged yet.")
ROUTES_VERSION = gauge("orchestrator_routes_version", "Version of the routes in memory.")
ROUTES_AGE_SECONDS = gauge(
    "orchestrator_routes_age_seconds", "Seconds since Postgres confirmed that the routes in memory are current."
)
CONFIGURATION_VERSION = gauge(
    "orchestrator_configuration_version", "Version of the configuration that this process has read."
)
CACHE_REQUESTS = counter(
    "orchestrator_cache_requests_total",
    "Chat completions that asked the response cache, by outcome: miss, hit, semantic, stale.",
    ("outcome",),
)
CACHE_BYPASSED = counter(
    "orchestrator_cache_bypassed_total", "Requests that asked the response cache while Redis did not answer."
)
SEMANTIC_FAILURES = counter(
    "orchestrator_cache_semantic_failures_total", "Prompts that retrieval did not find, or keep, because it failed."
)
CACHE_STORE_FAILURES = counter("orchestrator_cache_store_failures_total", "Answers or locks that Redis did not take.")
CACHE_READ_SECONDS = histogram(
    "orchestrator_cache_read_seconds", "Time that Redis took to look for an answer, or fail."
)
JOB_EVENTS_LOST = counter(
    "orchestrator_job_events_lost_total",
    "Events and cancellations of jobs that Redis did not take; they are polled for.",
)
QUEUE_JOBS = gauge(
    "orchestrator_queue_jobs",
    "Jobs by pool, lane and state: queued, dispatched or running. As all queue metrics: of the whole installation, the "
    "same on every replica, and absent while they could not be read for a minute.",
    ("pool", "lane", "state"),
)
QUEUE_OLDEST_WAIT_SECONDS = gauge(
    "orchestrator_queue_oldest_wait_seconds", "How long the oldest job waits that is due; 0 if none.", ("pool", "lane")
)
QUEUE_TOKENS = gauge("orchestrator_queue_tokens", "Tokens that the waiting jobs can use at most.", ("pool", "lane"))
QUEUE_WORK_SECONDS = gauge(
    "orchestrator_queue_work_seconds",
    "Seconds that one slot needs for the waiting jobs, by the mean of recent ones; absent when none has run recently.",
    ("pool", "lane"),
)
QUEUE_TENANTS = gauge("orchestrator_queue_tenants", "Tenants with waiting jobs.", ("pool", "lane"))
POOL_SLOTS = gauge("orchestrator_pool_slots", "Jobs that the live workers of a pool can run at once.", ("pool",))
QUEUES_AGE_SECONDS = gauge(
    "orchestrator_queues_age_seconds", "Seconds since all queue metrics were read from Postgres, or since the start."
)
QUEUES_READ_SECONDS = histogram("orchestrator_queues_read_seconds", "Time of reading all queue metrics from Postgres.")
JOB_TRANSITIONS = counter("orchestrator_job_transitions_total", "Jobs by the state that they have reached.", ("state",))
JOB_SUBMIT_SECONDS = histogram("orchestrator_job_submit_seconds", "Time to check a job and to store it durably.")
JOB_CLAIM_SECONDS = histogram(
    "orchestrator_job_claim_seconds", "Time to claim a job: durably, with its context and its reservation."
)
JOB_VECTORS_REFUSED = counter(
    "orchestrator_job_vectors_refused_total",
    "Reports of workers that were refused, and come again, because vectors of other jobs took the memory for them.",
)
JOB_DISPATCH_SECONDS = histogram(
    "orchestrator_job_dispatch_seconds",
    "Time from when a job was due until it was on its way to a worker.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 43200),
)
JOB_RUN_SECONDS = histogram(
    "orchestrator_job_run_seconds",
    "Time from the claim of a job to the end of its run.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
)
JOBS_REAPED = counter(
    "orchestrator_jobs_reaped_total",
    "Jobs that no worker ended: run (its worker died), dispatch (no worker claimed it), deadline (it passed).",
    ("what",),
)
JOBS_QUARANTINED = counter("orchestrator_jobs_quarantined_total", "Jobs whose workers died too often.")
WEBHOOK_DELIVERIES_MADE = counter("orchestrator_webhook_deliveries_total", "Deliveries made of events.")
WEBHOOK_ATTEMPTS = counter(
    "orchestrator_webhook_attempts_total",
    "Attempts of deliveries by outcome: succeeded, failed (tried again later), exhausted, or cancelled without one.",
    ("outcome",),
)
WEBHOOK_ATTEMPT_SECONDS = histogram("orchestrator_webhook_attempt_seconds", "Time of one HTTP request.")
WEBHOOKS_IN_FLIGHT = gauge("orchestrator_webhooks_in_flight", "Attempts in progress.")
WEBHOOK_ENDPOINTS_DISABLED = counter(
    "orchestrator_webhook_endpoints_disabled_total",
    "Endpoints disabled by reason: removed (it answered 410) or failing (only failures for days).",
    ("reason",),
)
