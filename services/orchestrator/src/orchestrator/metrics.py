"""Every metric of the orchestrator. No label names a tenant: what one tenant did is in the books."""

from chassis.telemetry import counter, gauge, histogram

GENERATIONS = counter(
    "orchestrator_generations_total",
    "Chat completions by their end: answered, cut (after the first byte), cancelled (by the client), or kind of error.",
    ("outcome",),
)
GENERATION_SECONDS = histogram("orchestrator_generation_seconds", "Time from the request to the end of its answer.")
FIRST_CHUNK_SECONDS = histogram(
    "orchestrator_first_chunk_seconds", "Time from the request to the first chunk of its answer."
)
EMBEDDINGS = counter(
    "orchestrator_embeddings_total",
    "Embedding requests by how they ended: answered, cancelled (by the caller), or the kind of the error.",
    ("outcome",),
)
TOKENS = counter("orchestrator_tokens_total", "Tokens of finished requests, input and output.", ("direction",))
RESERVE_SECONDS = histogram("orchestrator_reserve_seconds", "Time that metering took to set money aside, or to refuse.")
SEARCH_SECONDS = histogram("orchestrator_search_seconds", "Time that retrieval took to find context, or to refuse.")
RECORD_BATCH = histogram(
    "orchestrator_record_batch_events",
    "Usage events written to the outbox by one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
RECORD_SECONDS = histogram("orchestrator_record_seconds", "Time of one such transaction.")
UNWRITTEN = gauge(
    "orchestrator_usage_unwritten", "Usage events that Postgres has not taken yet and that are tried again."
)
IN_FLIGHT = gauge(
    "orchestrator_tasks_in_flight", "Requests and usage events being worked on: what the limit is set on."
)
DETACHED = gauge("orchestrator_detached_drains", "Plans that go on to their account although the client went away.")
OUTBOX_PENDING = gauge("orchestrator_outbox_pending", "Usage events in the outbox that Kafka has not acknowledged yet.")
ROUTES_VERSION = gauge("orchestrator_routes_version", "Version of the routes in memory.")
ROUTES_AGE_SECONDS = gauge(
    "orchestrator_routes_age_seconds", "Seconds since the routes in memory were last seen to be in force."
)
