"""Metrics of both sides. Their host lists them among its own (`METRICS`, all with the labels `LABELS`)."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

LABELS: Final = ("side",)  # "client" or "server"

STREAMS: Final = Gauge("argosy_exchange_streams", "Exchange streams that are open, by side.", LABELS)
IN_FLIGHT: Final = Gauge("argosy_exchange_calls_in_flight", "Calls on exchange streams, by side.", LABELS)
BATCH_FRAMES: Final = Histogram(
    "argosy_exchange_batch_frames",
    "Frames that travelled as one message, by side that sent them.",
    LABELS,
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
VIOLATIONS: Final = Counter(
    "argosy_exchange_violations_total", "Frames that violate the protocol, by side that received them.", LABELS
)
METRICS: Final = (STREAMS, IN_FLIGHT, BATCH_FRAMES, VIOLATIONS)
