"""A channel on which each call is a gRPC call of its own: for people, probes and comparison."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import grpc

from chassis.errors import ArgosyError, Unavailable
from chassis.grpc.calls import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from chassis.grpc.exchange.wire import MESSAGE_BYTES
from chassis.grpc.line import OPTIONS, PATIENCE_SECONDS, STREAM_TIME, UNARY_TIME, texts_of_caller
from chassis.grpc.status import from_rpc_error

Metadata = tuple[tuple[str, str | bytes], ...]

READY: Final = grpc.ChannelConnectivity.READY

ORDINARY_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    *OPTIONS,
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
)


class OrdinaryChannel(grpc.aio.Channel):
    """As `chassis.grpc.Channel`, by ordinary gRPC: some 450 µs a call instead of 20; no call is sent twice."""

    def __init__(
        self,
        target: str,
        name: str,
        timeout: timedelta = UNARY_TIME,
        stream_timeout: timedelta = STREAM_TIME,
    ) -> None:
        self.name = name
        self.timeout_seconds = timeout.total_seconds()
        self.stream_timeout_seconds = stream_timeout.total_seconds()
        self._inner = grpc.aio.insecure_channel(target, options=ORDINARY_OPTIONS)

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
        carried = texts_of_caller()
        return (*zip(carried[::2], carried[1::2], strict=True), *(extra or ()))

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
