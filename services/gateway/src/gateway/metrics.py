"""Every metric of the gateway, declared once."""

from chassis.telemetry import counter, histogram

REQUESTS = counter("gateway_requests_total", "Requests, by route template and HTTP status.", ("route", "status"))
REQUEST_SECONDS = histogram(
    "gateway_request_seconds",
    "Time from a request's headers to the end of its response.",
    ("route",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
FIRST_BYTE_SECONDS = histogram(
    "gateway_stream_first_byte_seconds",
    "Time from a request's headers to the first byte of its streamed response.",
    ("route",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STREAM_CHUNKS = counter(
    "gateway_stream_chunks_total", "Writes of streamed responses; payloads that wait share one write.", ("route",)
)
STREAM_ERRORS = counter(
    "gateway_stream_errors_total", "Streamed responses that ended with an error event, by its code.", ("code",)
)
CLIENT_DISCONNECTS = counter(
    "gateway_client_disconnects_total", "Requests whose client disconnected before the end of the response.", ("route",)
)
AUTHENTICATIONS = counter(
    "gateway_authentications_total", 'Authentications, by outcome: "success" or the code of the error.', ("outcome",)
)
IN_FLIGHT_REFUSED = counter(
    "gateway_in_flight_refused_total",
    'Requests refused because too much is in flight, by what ("bodies", "uploads", "event streams") and scope '
    '("process", "key").',
    ("what", "scope"),
)
KEY_CACHE = counter("gateway_key_cache_total", 'Reads of the API key cache, by result: "hit" or "miss".', ("result",))
UPLOADED_BYTES = counter("gateway_uploaded_bytes_total", "Bytes of uploaded files.")
REVOCATIONS = counter(
    "gateway_revocations_total", 'Revocations, by event: "published", "received" or "deferred".', ("event",)
)
RATE_LIMIT_CHECKS = counter(
    "gateway_rate_checks_total",
    'Rate limit checks, by result: "checked", or "unavailable" when this replica counted alone.',
    ("result",),
)
RATE_LIMITED = counter(
    "gateway_rate_limited_total", 'Requests over a rate limit, by its scope: "key" or "tenant".', ("scope",)
)
