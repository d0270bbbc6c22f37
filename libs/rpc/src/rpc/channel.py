"""A channel for generated stubs whose calls share one stream per replica."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf import descriptor_pool

from rpc.client_call import NOT_CONNECTED, ClientCall
from rpc.flow_control import Deadlines
from rpc.replicas import Replicas, Resolver
from rpc.request_writer import RequestWriter
from rpc.wire import MAX_CALLS, Log, Status, flatten_metadata

# A call waits this long for a stream, for example while the peer restarts, and never beyond its deadline.
CONNECT_TIMEOUT_SECONDS: Final = 2.0

READY: Final = grpc.ChannelConnectivity.READY
CONNECTING: Final = grpc.ChannelConnectivity.CONNECTING

# By https://protobuf.dev/reference/protobuf/google.protobuf (MethodOptions.idempotency_level): UNKNOWN is 0.
IDEMPOTENCY_UNKNOWN: Final = 0


class Channel(grpc.aio.Channel):
    """A channel to the peer called `name`; an async context manager. The host's subclass defines errors and metadata.

    `target` is "host:port", or several separated by commas; calls are spread over all replicas behind the names.
    A call is retried on another replica when its first frame was certainly not written or was refused, or when its
    method is marked idempotent and no frame of a response has arrived. A unary response is awaited; a stream can be
    iterated, read, written and cancelled like gRPC's own.
    """

    error_type: type[Exception] = Exception

    def __init__(
        self,
        target: str,
        name: str,
        *,
        timeout_seconds: float,
        stream_timeout_seconds: float,
        options: Sequence[tuple[str, Any]],
        resolver: Resolver,
        log: Log,
    ) -> None:
        self.name = name
        self.timeout_seconds = timeout_seconds
        self.stream_timeout_seconds = stream_timeout_seconds
        self._replicas = Replicas(target, name, options=options, resolver=resolver, on_open=self._on_open, log=log)
        self._unassigned: dict[ClientCall, asyncio.TimerHandle] = {}
        self._opened = asyncio.Event()

    # What the host defines.

    @abstractmethod
    def to_error(self, status: Status) -> Exception:
        """Make the exception for a status, an `error_type`."""

    @abstractmethod
    def capacity_error(self) -> Exception:
        """Make the exception for a call beyond what the streams carry."""

    @abstractmethod
    def call_metadata(self) -> list[str]:
        """Return the metadata that every call carries: alternating keys and values."""

    async def __aenter__(self) -> Self:
        self.deadlines = Deadlines()
        self._replicas.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:  # noqa: ARG002 - gRPC's interface
        """Close; calls in flight fail."""
        await self._replicas.stop()
        self.deadlines.close()
        for call in list(self._unassigned):
            call.finish(NOT_CONNECTED)

    @property
    def ready(self) -> bool:
        """Whether a call could start now."""
        return self._replicas.ready

    async def await_ready(self, max_seconds: float) -> float:
        """Wait until a stream is open and return the seconds it took.

        Raises the error for UNAVAILABLE after `max_seconds` or the connect timeout, whichever is shorter.
        """
        started = monotonic()
        try:
            async with asyncio.timeout(min(max_seconds, CONNECT_TIMEOUT_SECONDS)):
                while not self.ready:
                    self._opened.clear()
                    await self._opened.wait()
        except TimeoutError as error:
            raise self.to_error(NOT_CONNECTED) from error
        return monotonic() - started

    # For calls: `ClientCallRegistry`.

    def assign(self, call: ClientCall) -> None:
        """Start the call on the least loaded stream, or once one opens; fail it after the connect timeout."""
        stream = self._replicas.pick()
        if stream is not None:
            stream.start_call(call)
        else:
            loop = asyncio.get_running_loop()
            self._unassigned[call] = loop.call_later(CONNECT_TIMEOUT_SECONDS, call.finish, NOT_CONNECTED)

    def unassign(self, call: ClientCall) -> None:
        """Remove the call from its stream, because it has ended or is retried."""
        if call.stream is not None:
            call.stream.remove_call(call)
            call.stream = None
        elif (timer := self._unassigned.pop(call, None)) is not None:
            timer.cancel()

    def _on_open(self) -> None:
        self._opened.set()
        for call in list(self._unassigned):
            self.unassign(call)
            self.assign(call)

    def new_call(self, method: str, codec: Any, seconds: float, metadata: Any, *, idempotent: bool) -> ClientCall:
        """Make a call that is not assigned to a stream yet. Raises `capacity_error`."""
        if not self._replicas.ready and (len(self._unassigned) >= MAX_CALLS or self._replicas.at_capacity):
            raise self.capacity_error()
        carried = self.call_metadata()
        if metadata:
            carried += flatten_metadata(metadata)
        return ClientCall(self, method, codec, seconds, carried, idempotent=idempotent)

    # gRPC's interface for stubs.

    def unary_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        return UnaryUnary(self, method, *codec, **options)

    def unary_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        return UnaryStream(self, method, *codec, **options)

    def stream_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        return RequestStream(self, method, *codec, **options)

    def stream_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        return RequestStream(self, method, *codec, **options)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002 - gRPC's interface
        return READY if self.ready else CONNECTING

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:
            self._opened.clear()
            await self._opened.wait()

    async def channel_ready(self) -> None:
        await self.wait_for_state_change(CONNECTING)


class _Callable:
    """A method of a peer, bound once. Of gRPC's call options it supports `timeout` (in seconds) and `metadata`."""

    __slots__ = ("_channel", "_codec", "_idempotent", "_method")

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
        self._idempotent = is_idempotent(method)


class UnaryUnary(_Callable):
    """A method with one request and one response."""

    __slots__ = ()

    async def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        channel = self._channel
        seconds = channel.timeout_seconds if timeout is None else timeout
        call = channel.new_call(self._method, self._codec, seconds, metadata, idempotent=self._idempotent)
        call.send(call.encode(request), end=True)
        channel.assign(call)
        return await call.response()


class UnaryStream(_Callable):
    """A method with one request and a stream of responses."""

    __slots__ = ()

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> ClientCall:
        channel = self._channel
        seconds = channel.stream_timeout_seconds if timeout is None else timeout
        call = channel.new_call(self._method, self._codec, seconds, metadata, idempotent=self._idempotent)
        call.send(call.encode(request), end=True)
        channel.assign(call)
        return call


class RequestStream(_Callable):
    """A method with a stream of requests. Without `requests`, the caller writes them to the call."""

    __slots__ = ()

    def __call__(self, requests: Any = None, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        channel = self._channel
        seconds = channel.stream_timeout_seconds if timeout is None else timeout
        call = channel.new_call(self._method, self._codec, seconds, metadata, idempotent=self._idempotent)
        channel.assign(call)
        return call if requests is None else RequestWriter(call, requests)


@lru_cache(maxsize=1024)
def is_idempotent(method: str) -> bool:
    """Whether the proto marks the method as safe to call twice (`option idempotency_level`)."""
    service, _, name = method.lstrip("/").rpartition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return False
    return bool(found.GetOptions().idempotency_level != IDEMPOTENCY_UNKNOWN)
