"""Every metric of the inference worker. No label names a tenant or a model: upstreams are few, models are not."""

from chassis.telemetry import counter, gauge, histogram

ATTEMPTS = counter(
    "inference_worker_attempts_total",
    "Provider calls by outcome: succeeded, rejected, interrupted, cancelled, timed_out.",
    ("upstream", "outcome"),
)
FIRST_BYTE_SECONDS = histogram(
    "inference_worker_first_byte_seconds",
    "Time from sending a request to the first byte of its response.",
    ("upstream",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
TOKENS = counter(
    "inference_worker_tokens_total",
    "Tokens by direction (input, output) and by source (reported, counted).",
    ("upstream", "direction", "source"),
)
UNKNOWN_USAGE = counter(
    "inference_worker_unknown_usage_total",
    "Provider calls that may have been billed, and whose usage is unknown.",
    ("upstream",),
)
EMBED_TEXTS = counter("inference_worker_embed_texts_total", "Texts in embedding requests.")
EMBED_SECONDS = histogram("inference_worker_embed_seconds", "Time to embed the texts of one call, over all attempts.")
IN_FLIGHT = gauge("inference_worker_in_flight", "Plans and embeddings that are running.")
REJECTED = counter(
    "inference_worker_rejected_total", "Plans and embeddings that were rejected because the worker was at capacity."
)
