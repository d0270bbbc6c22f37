"""Every metric of the gateway, declared once."""

from chassis.telemetry import counter, histogram

REQUESTS = counter(
    "gateway_requests_total", "Requests answered, by route template and HTTP status.", ("route", "status")
)
SECONDS = histogram(
    "gateway_request_seconds",
    "Time from a request's headers to the end of its answer.",
    ("route",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
FIRST_BYTE_SECONDS = histogram(
    "gateway_stream_first_byte_seconds",
    "Time from a request's headers to the first byte of its streamed answer.",
    ("route",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STREAM_CHUNKS = counter(
    "gateway_stream_chunks_total", "Writes of streamed answers; payloads that wait share one.", ("route",)
)
STREAMS_BROKEN = counter(
    "gateway_streams_broken_total", "Streamed answers that ended with an error event, by its code.", ("code",)
)
CLIENTS_GONE = counter(
    "gateway_clients_gone_total", "Requests that their client left before the answer's end.", ("route",)
)
ADMISSIONS = counter(
    "gateway_admissions_total", 'API keys presented, by outcome: "admitted" or the code of the refusal.', ("outcome",)
)
KEY_CACHE = counter("gateway_key_cache_total", 'Keys asked of memory, by result: "hit" or "miss".', ("result",))
UPLOADED_BYTES = counter("gateway_uploaded_bytes_total", "Bytes of files received.")
REVOCATIONS = counter(
    "gateway_revocations_total", 'Revocations, by what happened: "announced", "heard" or "deferred".', ("event",)
)
RATE_CHECKS = counter(
    "gateway_rate_checks_total",
    'Requests whose rate was looked up, by result: "checked", or "unavailable" when this replica counted for itself.',
    ("result",),
)
RATE_LIMITED = counter(
    "gateway_rate_limited_total", 'Requests refused for their rate, by whose it was: "key" or "tenant".', ("scope",)
)
