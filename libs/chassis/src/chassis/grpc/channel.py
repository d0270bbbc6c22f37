"""The channel to a peer that generated stubs are given."""

from __future__ import annotations

from datetime import timedelta

import rpc
from rpc.replicas import Resolver, resolve
from rpc.wire import Status

from chassis.errors import ArgosyError, Kind
from chassis.grpc.call_options import CHANNEL_OPTIONS, STREAM_TIMEOUT, UNARY_TIMEOUT, caller_metadata
from chassis.grpc.status import from_status
from chassis.telemetry import logger

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
