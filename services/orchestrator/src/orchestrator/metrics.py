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
    "Endpoints disabled by reason: gone (it answered 410) or failing (only failures for days).",
    ("reason",),
)
