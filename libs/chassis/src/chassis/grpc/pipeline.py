"""What happens around every call that a service answers: who asks, until when, and what came of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from chassis.clock import Clock
from chassis.errors import CONTAINS_USER_CONTENT, ArgosyError, DeadlineExceeded, Internal, InvalidRequest, Kind
from chassis.grpc.status import STATUS, to_metadata
from chassis.ids import new_id
from chassis.telemetry import counter, extract, gauge, histogram, logger, span
from chassis.tenancy import Caller, PrincipalVerifier, as_caller

PRINCIPAL: Final = "argosy-principal"
REQUEST_ID: Final = "argosy-request-id"

TRACE_KEYS: Final = frozenset({"traceparent", "tracestate"})

# For callers that set no deadline, in seconds.
UNARY_SECONDS: Final = 30.0
STREAM_SECONDS: Final = 600.0

CALLS = counter("argosy_grpc_server_calls_total", "Calls answered, by method and status.", ("method", "code"))
SECONDS = histogram("argosy_grpc_server_seconds", "Seconds from a call's arrival to its end, by method.", ("method",))
IN_FLIGHT = gauge("argosy_grpc_server_in_flight", "Calls being answered.")

# Failures that somebody should look at; the others are answers.
NOTABLE: Final = frozenset({Kind.INTERNAL, Kind.UNAVAILABLE, Kind.UPSTREAM, Kind.TIMED_OUT})

log = logger("chassis.grpc")

Behaviour = Callable[[Any, Any], Awaitable[Any]]


class Pipeline:
    """Puts the same work around every method of a server."""

    def __init__(self, verifier: PrincipalVerifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock

    def around(self, path: str, handler: Any) -> Method:
        """Return the method at `path`, "/package.Service/Method", inside the pipeline."""
        return Method(path, self._verifier, self._clock, handler)


class Method:
    """One method of a service with its share of the pipeline, made once; gRPC and the exchange both call `run`."""

    def __init__(self, path: str, verifier: PrincipalVerifier, clock: Clock, handler: Any) -> None:
        """`handler` is gRPC's own, as generated code makes it."""
        self._name = path.lstrip("/")
        self._verifier = verifier
        self._clock = clock
        self.request_streaming = handler.request_streaming
        self.response_streaming = handler.response_streaming
        self.encode = handler.response_serializer or bytes
        self.decode_streamed = handler.request_deserializer or bytes
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        self._behaviour: Behaviour = _pumped(behaviour) if self.response_streaming else behaviour
        # A single request is decoded inside the pipeline: for a known caller, and with an answer to a bad one.
        self._decode = None if self.request_streaming else handler.request_deserializer
        streams = self.request_streaming or self.response_streaming
        self._default_seconds = STREAM_SECONDS if streams else UNARY_SECONDS
        self._seconds = SECONDS.labels(self._name)
        self._ok = CALLS.labels(self._name, "OK")

    def handler(self) -> Any:
        """Return a handler for gRPC, of the shape that the method has."""
        shape = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[self.request_streaming, self.response_streaming]
        return shape(
            self.run,
            request_deserializer=self.decode_streamed if self.request_streaming else None,
            response_serializer=self.encode,
        )

    async def run(self, request: Any, context: Any) -> Any:
        """Answer one call; every failure but a cancelled call ends in `context.abort`."""
        started = self._clock.monotonic()
        IN_FLIGHT.inc()
        outcome = self._ok
        try:
            return await self._answer(request, context)
        except ArgosyError as error:
            code = STATUS[error.kind]
            outcome = CALLS.labels(self._name, code.name)
            await context.abort(code, error.message, to_metadata(error))
        except (asyncio.CancelledError, grpc.aio.BaseError):
            # The caller is gone or its time is up; gRPC itself ends the call.
            late = context.time_remaining() == 0
            outcome = CALLS.labels(self._name, "DEADLINE_EXCEEDED" if late else "CANCELLED")
            raise
        finally:
            IN_FLIGHT.dec()
            self._seconds.observe(self._clock.monotonic() - started)
            outcome.inc()

    async def _answer(self, request: Any, context: Any) -> Any:
        token, request_id, carrier = _read(context.invocation_metadata())
        with as_caller(self._admit(token, request_id)), extract(carrier), span(self._name, kind="server"):
            try:
                answer = await self._within_limit(request, context)
            except grpc.aio.BaseError:
                raise
            except ArgosyError as error:
                self._report(error)
                raise
            except Exception as error:
                raise self._translated(error) from error
            log.debug("grpc_call", method=self._name)
            return answer

    def _admit(self, token: str, request_id: str) -> Caller:
        try:
            return Caller(self._verifier.verify(token), token, request_id or new_id("req_"))
        except ArgosyError as error:
            log.info("grpc_call_refused", method=self._name, reason=error.reason, request_id=request_id)
            raise

    async def _within_limit(self, request: Any, context: Any) -> Any:
        message = request if self._decode is None else self._decode(request)
        if context.time_remaining() is not None:
            return await self._behaviour(message, context)
        limit = asyncio.timeout(self._default_seconds)
        try:
            async with limit:
                return await self._behaviour(message, context)
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceeded(f"not done within {self._default_seconds:g} s") from error
            raise

    def _report(self, error: ArgosyError) -> None:
        say = log.warning if error.kind in NOTABLE else log.info
        message = {} if error.kind in CONTAINS_USER_CONTENT else {"message": error.message}
        say("grpc_call_failed", method=self._name, kind=error.kind, reason=error.reason, param=error.param, **message)

    def _translated(self, error: Exception) -> ArgosyError:
        """What the caller is told of an exception that nobody meant for it."""
        if isinstance(error, DecodeError):
            return InvalidRequest("the request is not a message of this method")
        if isinstance(error, NotImplementedError):
            return Unimplemented(f"{self._name} is not implemented")
        log.error("grpc_call_broke", method=self._name, exc_info=error)
        return Internal("internal error")


class Unimplemented(ArgosyError):
    """The service knows the method's name and does not do it yet."""

    kind, reason = Kind.INTERNAL, "UNIMPLEMENTED"


def _read(metadata: Any) -> tuple[str, str, dict[str, str]]:
    token = request_id = ""
    carrier: dict[str, str] = {}
    for key, value in metadata or ():
        if key == PRINCIPAL:
            token = value
        elif key == REQUEST_ID:
            request_id = value
        elif key in TRACE_KEYS:
            carrier[key] = value
    return token, request_id, carrier


def _pumped(behaviour: Callable[[Any, Any], Any]) -> Behaviour:
    """Make a coroutine of a method that streams, whether it yields its messages or writes them.

    gRPC would loop over a generator in the same way; doing it here spares each message the hop through a second one.
    """

    async def pump(request: Any, context: Any) -> None:
        responses = behaviour(request, context)
        if inspect.isawaitable(responses):
            await responses
            return
        write = context.write
        # Closed here and now, so that what the generator cleans up is clean before the call is over.
        async with aclosing(responses):
            async for response in responses:
                await write(response)

    return pump
