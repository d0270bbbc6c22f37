"""The channel to a peer that generated stubs are given, and what every call on it carries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import rpc
from rpc.replicas import Resolver, resolve
from rpc.wire import MAX_MESSAGE_BYTES, Status

from chassis.errors import ArgosyError, Kind
from chassis.grpc.pipeline import PRINCIPAL_KEY, REQUEST_ID_KEY
from chassis.grpc.status import from_status
from chassis.telemetry import inject, logger
from chassis.tenancy import find_caller

UNARY_TIMEOUT: Final = timedelta(seconds=30)
STREAM_TIMEOUT: Final = timedelta(seconds=600)

CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    # A peer that was restarted is used again within about a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A peer that stopped answering without closing the connection (frozen, unplugged) is given up after 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this option gRPC waits a minute for the answer to a ping, whatever keepalive_timeout_ms is.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Peers are on our own network; a proxy from the environment is for addresses outside of it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def caller_metadata() -> list[str]:
    """Return the metadata of a call made now: principal, request id and trace, as alternating keys and values."""
    metadata: list[str] = []
    caller = find_caller()
    # Background work (a sweeper, a probe) has no caller; the peer refuses it where a principal is needed.
    if caller is not None:
        metadata = [PRINCIPAL_KEY, caller.token, REQUEST_ID_KEY, caller.request_id]
    trace: dict[str, str] = {}
    inject(trace)
    for pair in trace.items():
        metadata += pair
    return metadata


log = logger("chassis.grpc")


class ExchangeFull(ArgosyError):
    """This process has as many calls in flight to a peer as its streams carry; try again."""

    kind, reason = Kind.UNAVAILABLE, "EXCHANGE_FULL"


class Channel(rpc.Channel):
    """As `rpc.Channel`: calls share one stream per replica. Timeouts are those of calls that set none.

    Calls carry the current caller's principal and request id and the trace. They fail with `RemoteError` (the peer's
    own error), `Unavailable`, `DeadlineExceeded` or `ExchangeFull`.
    """

    error_type = ArgosyError
    call_metadata = staticmethod(caller_metadata)

    def __init__(
        self,
        target: str,
        name: str,
        timeout: timedelta = UNARY_TIMEOUT,
        stream_timeout: timedelta = STREAM_TIMEOUT,
        resolver: Resolver = resolve,
    ) -> None:
        super().__init__(
            target,
            name,
            timeout_seconds=timeout.total_seconds(),
            stream_timeout_seconds=stream_timeout.total_seconds(),
            options=CHANNEL_OPTIONS,
            resolver=resolver,
            log=log,
        )

    def to_error(self, status: Status) -> ArgosyError:
        return from_status(self.name, *status[:3])

    def capacity_error(self) -> ArgosyError:
        return ExchangeFull(f"too many calls to {self.name} are in flight")
