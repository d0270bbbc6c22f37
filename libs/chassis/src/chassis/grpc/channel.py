"""The one door to a peer: what generated stubs are given, whatever carries the calls underneath."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import grpc

from chassis.errors import ArgosyError, Unavailable
from chassis.grpc.calls import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from chassis.grpc.pipeline import PRINCIPAL, REQUEST_ID
from chassis.grpc.server import MESSAGE_BYTES
from chassis.grpc.status import from_rpc_error
from chassis.telemetry import inject
from chassis.tenancy import find_caller

Metadata = tuple[tuple[str, str | bytes], ...]

# How long a call waits for a peer that is being restarted before it fails, in seconds; never longer than its deadline.
PATIENCE_SECONDS: Final = 2.0

READY: Final = grpc.ChannelConnectivity.READY

OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    # A peer that was restarted is used again within a second or so.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A peer that vanished without a word (frozen, unplugged) is given up after 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Peers are on our own network: a proxy from the environment is for the outside.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Channel(grpc.aio.Channel):
    """A channel to the peer called `name` at `target` ("host:port"), for generated stubs; an async context manager.

    Calls carry the current caller's principal and request id and the trace, and have a deadline. They fail with
    `RemoteFailure` (the peer's own error), `Unavailable` or `DeadlineExceeded`; a call is never sent twice. A unary
    answer is awaited; a stream can be iterated, read, written and cancelled like gRPC's own.
    """

    def __init__(
        self,
        target: str,
        name: str,
        timeout: timedelta = timedelta(seconds=30),
        stream_timeout: timedelta = timedelta(seconds=600),
    ) -> None:
        self.name = name
        self.timeout_seconds = timeout.total_seconds()
        self.stream_timeout_seconds = stream_timeout.total_seconds()
        self._inner = grpc.aio.insecure_channel(target, options=OPTIONS)

    async def __aenter__(self) -> Self:
        self._inner.get_state(try_to_connect=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close; calls in flight are cancelled after `grace` seconds."""
        await self._inner.close(grace)

    @property
    def ready(self) -> bool:
        """Whether a connection is open."""
        return self._inner.get_state() is READY

    async def await_ready(self, limit_seconds: float) -> float:
        """Wait until a connection is open and return the seconds it took.

        Raises `Unavailable` after `limit_seconds` or the channel's patience, whichever is shorter.
        """
        started = monotonic()
        try:
            async with asyncio.timeout(min(limit_seconds, PATIENCE_SECONDS)):
                while (state := self._inner.get_state(try_to_connect=True)) is not READY:
                    await self._inner.wait_for_state_change(state)
        except TimeoutError as error:
            raise Unavailable(f"{self.name} does not answer") from error
        return monotonic() - started

    def metadata(self, extra: Any) -> Metadata:
        """Return what a call made now must carry, and `extra`."""
        carrier: dict[str, str] = {}
        caller = find_caller()
        # Where nobody acts (a sweeper, a probe) there is no principal, and the peer refuses what needs one.
        if caller is not None:
            carrier[PRINCIPAL] = caller.token
            carrier[REQUEST_ID] = caller.request_id
        inject(carrier)
        return (*carrier.items(), *(extra or ()))

    def failure(self, error: grpc.aio.AioRpcError) -> ArgosyError:
        """Return what gRPC's error means."""
        return from_rpc_error(self.name, error)

    def unary_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: one request, one response."""
        return UnaryUnary(self, self._inner.unary_unary(method, *codec, **options))

    def unary_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: one request, a stream of responses."""
        return UnaryStream(self, self._inner.unary_stream(method, *codec, **options))

    def stream_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: a stream of requests, one response."""
        return StreamUnary(self, self._inner.stream_unary(method, *codec, **options))

    def stream_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: a stream each way."""
        return StreamStream(self, self._inner.stream_stream(method, *codec, **options))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As gRPC's."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As gRPC's."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As gRPC's: wait until a connection is open, however long."""
        await self._inner.channel_ready()
