"""What both kinds of channel give to a call: its deadline, who makes it, and what a failure of it means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from chassis.grpc.pipeline import PRINCIPAL, REQUEST_ID
from chassis.telemetry import inject
from chassis.tenancy import find_caller

# How long a call waits for a peer that is being restarted before it fails, in seconds; never longer than its deadline.
PATIENCE_SECONDS: Final = 2.0
UNARY_TIME: Final = timedelta(seconds=30)
STREAM_TIME: Final = timedelta(seconds=600)

OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    # A peer that was restarted is used again within a second or so.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A peer that vanished without a word (frozen, unplugged) is given up after 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this one gRPC waits a minute for the answer to its ping, whatever the one above says.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Peers are on our own network: a proxy from the environment is for the outside.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def texts_of_caller() -> list[str]:
    """Return what a call made now must carry: keys and values in turn."""
    carried: list[str] = []
    caller = find_caller()
    # Where nobody acts (a sweeper, a probe) there is no principal, and the peer refuses what needs one.
    if caller is not None:
        carried = [PRINCIPAL, caller.token, REQUEST_ID, caller.request_id]
    trace: dict[str, str] = {}
    inject(trace)
    for pair in trace.items():
        carried += pair
    return carried
