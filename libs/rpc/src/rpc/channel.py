"""The one door to a peer: what generated stubs are given. Calls travel together on one stream per replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf import descriptor_pool

from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.grpc.exchange.calling import AWAY, Call
from chassis.grpc.exchange.deadlines import Deadlines
from chassis.grpc.exchange.replicas import Replicas, Resolve, resolve
from chassis.grpc.exchange.requests import Sending
from chassis.grpc.exchange.wire import CALLS, MESSAGE_BYTES, Status, flat
from chassis.grpc.line import OPTIONS, PATIENCE_SECONDS, STREAM_TIME, UNARY_TIME, texts_of_caller
from chassis.grpc.status import from_status

READY: Final = grpc.ChannelConnectivity.READY
CONNECTING: Final = grpc.ChannelConnectivity.CONNECTING

STREAM_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    *OPTIONS,
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)

# By https://protobuf.dev/reference/protobuf/google.protobuf (MethodOptions.idempotency_level): UNKNOWN is 0.
UNKNOWN_EFFECTS: Final = 0


class ExchangeFull(ArgosyError):
    """This process has as many calls in flight to a peer as its streams carry; try again."""

    kind, reason = Kind.UNAVAILABLE, "EXCHANGE_FULL"


class Channel(grpc.aio.Channel):
    """A channel to the peer called `name`, for generated stubs; an async context manager.

    `target` is "host:port", or several with commas between; calls are spread over all replicas behind the names.
    Calls carry the current caller's principal and request id and the trace, and have a deadline. They fail with
    `RemoteError` (the peer's own error), `Unavailable` or `DeadlineExceeded`. A call is made again elsewhere when it
    certainly was not begun, or when its method is marked idempotent and nothing of its answer has arrived. A unary
    answer is awaited; a stream can be iterated, read, written and cancelled like gRPC's own.
    """

    def __init__(
        self,
        target: str,
        name: str,
        timeout: timedelta = UNARY_TIME,
        stream_timeout: timedelta = STREAM_TIME,
        look_up: Resolve = resolve,
    ) -> None:
        self.name = name
        self.timeout_seconds = timeout.total_seconds()
        self.stream_timeout_seconds = stream_timeout.total_seconds()
        self._replicas = Replicas(target, name, STREAM_OPTIONS, self._opened, look_up)
        self._waiting: dict[Call, asyncio.TimerHandle] = {}
        self._opens = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.deadlines = Deadlines()
        self._replicas.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:  # noqa: ARG002 - gRPC's face
        """Close; calls in flight fail."""
        await self._replicas.stop()
        self.deadlines.close()
        for call in list(self._waiting):
            call.finish(AWAY)

    @property
    def ready(self) -> bool:
        """Whether a call could begin now."""
        return self._replicas.ready

    async def await_ready(self, limit_seconds: float) -> float:
        """Wait until a stream is open and return the seconds it took.

        Raises `Unavailable` after `limit_seconds` or the channel's patience, whichever is shorter.
        """
        started = monotonic()
        try:
            async with asyncio.timeout(min(limit_seconds, PATIENCE_SECONDS)):
                while not self.ready:
                    self._opens.clear()
                    await self._opens.wait()
        except TimeoutError as error:
            raise Unavailable(f"{self.name} does not answer") from error
        return monotonic() - started

    # For calls: `calling.Route`.

    def place(self, call: Call) -> None:
        """Begin the call on the least loaded stream, or as soon as one opens; not at all after the patience."""
        stream = self._replicas.choose()
        if stream is not None:
            stream.take(call)
        else:
            loop = asyncio.get_running_loop()
            self._waiting[call] = loop.call_later(PATIENCE_SECONDS, call.finish, AWAY)

    def leave(self, call: Call) -> None:
        """Forget a call that is over, or looks for another place."""
        if call.stream is not None:
            call.stream.drop(call)
            call.stream = None
        elif (timer := self._waiting.pop(call, None)) is not None:
            timer.cancel()

    def failure(self, status: Status) -> ArgosyError:
        """Return what a status means here."""
        return from_status(self.name, *status[:3])

    def _opened(self) -> None:
        self._opens.set()
        for call in list(self._waiting):
            self.leave(call)
            self.place(call)

    def call(self, method: str, codec: Any, seconds: float, extra: Any, *, safe: bool) -> Call:
        """Make a call that has said nothing yet and has no place. Raises `ExchangeFull`."""
        if not self._replicas.ready and (len(self._waiting) >= CALLS or self._replicas.full):
            raise ExchangeFull(f"too many calls to {self.name} are in flight")
        metadata = texts_of_caller()
        if extra:
            metadata += flat(extra)
        return Call(self, method, codec, seconds, metadata, safe=safe)

    # For stubs.

    def unary_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: one request, one response."""
        return UnaryUnary(self, method, *codec, **options)

    def unary_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: one request, a stream of responses."""
        return UnaryStream(self, method, *codec, **options)

    def stream_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: a stream of requests, one response."""
        return Streaming(self, method, *codec, **options)

    def stream_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        """For stubs: a stream each way."""
        return Streaming(self, method, *codec, **options)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002 - gRPC's face
        """Ready, or connecting."""
        return READY if self.ready else CONNECTING

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is another."""
        while self.get_state() is last_observed_state:
            self._opens.clear()
            await self._opens.wait()

    async def channel_ready(self) -> None:
        """Wait until a stream is open, however long."""
        await self.wait_for_state_change(CONNECTING)


class _Callable:
    """A method of a peer, bound once."""

    __slots__ = ("_channel", "_codec", "_method", "_safe")

    def __init__(
        self,
        channel: Channel,
        method: str,
        request_serializer: Callable[[Any], bytes] = bytes,
        response_deserializer: Callable[[bytes], Any] = bytes,
        **_: Any,
    ) -> None:
        self._channel = channel
        self._method = method
        self._codec = (request_serializer, response_deserializer)
        self._safe = is_safe(method)


class UnaryUnary(_Callable):
    """Calls a method with one request and one response; of gRPC's options it knows `timeout` and `metadata`."""

    __slots__ = ()

    async def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        """Call; `timeout` in seconds. Await the response."""
        channel = self._channel
        seconds = channel.timeout_seconds if timeout is None else timeout
        call = channel.call(self._method, self._codec, seconds, metadata, safe=self._safe)
        call.send(call.encode(request), end=True)
        channel.place(call)
        return await call.single()


class UnaryStream(_Callable):
    """Calls a method with one request and a stream of responses."""

    __slots__ = ()

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Call:
        """Call; `timeout` in seconds."""
        channel = self._channel
        seconds = channel.stream_timeout_seconds if timeout is None else timeout
        call = channel.call(self._method, self._codec, seconds, metadata, safe=self._safe)
        call.send(call.encode(request), end=True)
        channel.place(call)
        return call


class Streaming(_Callable):
    """Calls a method with a stream of requests."""

    __slots__ = ()

    def __call__(self, requests: Any = None, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        """Call; `timeout` in seconds. Without `requests`, write them to the call."""
        channel = self._channel
        seconds = channel.stream_timeout_seconds if timeout is None else timeout
        call = channel.call(self._method, self._codec, seconds, metadata, safe=self._safe)
        channel.place(call)
        return call if requests is None else Sending(call, requests)


@lru_cache(maxsize=1024)
def is_safe(method: str) -> bool:
    """Whether the message definitions say that a method may be called twice (`option idempotency_level`)."""
    service, _, name = method.lstrip("/").rpartition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return False
    return bool(found.GetOptions().idempotency_level != UNKNOWN_EFFECTS)
