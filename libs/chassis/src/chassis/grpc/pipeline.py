"""What happens around every call of a server: authentication, deadline, span, metrics, log and error status."""

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

PRINCIPAL_KEY: Final = "argosy-principal"
REQUEST_ID_KEY: Final = "argosy-request-id"

TRACE_KEYS: Final = frozenset({"traceparent", "tracestate"})

# Deadlines of calls that come without one.
UNARY_TIMEOUT_SECONDS: Final = 30.0
STREAM_TIMEOUT_SECONDS: Final = 600.0

CALLS = counter("argosy_grpc_server_calls_total", "Calls that have ended, by method and status.", ("method", "code"))
SECONDS = histogram("argosy_grpc_server_seconds", "Seconds from a call's arrival to its end, by method.", ("method",))
IN_FLIGHT = gauge("argosy_grpc_server_in_flight", "Calls in flight.")

# Logged as warnings; errors of other kinds are ordinary responses to the caller.
WARNING_KINDS: Final = frozenset({Kind.INTERNAL, Kind.UNAVAILABLE, Kind.UPSTREAM, Kind.TIMED_OUT})

log = logger("chassis.grpc")

Handler = Callable[[Any, Any], Awaitable[Any]]


class Pipeline:
    """Wraps the methods of a server."""

    def __init__(self, verifier: PrincipalVerifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock

    def wrap(self, path: str, handler: Any) -> Method:
        """Wrap the method at `path` ("/package.Service/Method")."""
        return Method(path, self._verifier, self._clock, handler)


class Method:
    """One method of a servicer inside the pipeline; gRPC and the exchange both call `run`."""

    def __init__(self, path: str, verifier: PrincipalVerifier, clock: Clock, handler: Any) -> None:
        """`handler` is gRPC's, as generated code makes it."""
        self._name = path.lstrip("/")
        self._verifier = verifier
        self._clock = clock
        self.request_streaming = handler.request_streaming
        self.response_streaming = handler.response_streaming
        self.encode = handler.response_serializer or bytes
        self.decode_streamed = handler.request_deserializer or bytes
        function = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        self._handle: Handler = _as_coroutine(function) if self.response_streaming else function
        # A single request is decoded inside the pipeline: after authentication, and with a status if it is malformed.
        self._decode = None if self.request_streaming else handler.request_deserializer
        streams = self.request_streaming or self.response_streaming
        self._default_seconds = STREAM_TIMEOUT_SECONDS if streams else UNARY_TIMEOUT_SECONDS
        self._seconds = SECONDS.labels(self._name)
        self._ok = CALLS.labels(self._name, "OK")

    def handler(self) -> Any:
        """Return the handler to register with gRPC."""
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
        """Handle one call; every failure except a cancelled call ends in `context.abort`."""
        started = self._clock.monotonic()
        IN_FLIGHT.inc()
        outcome = self._ok
        try:
            return await self._handle_call(request, context)
        except ArgosyError as error:
            code = STATUS[error.kind]
            outcome = CALLS.labels(self._name, code.name)
            await context.abort(code, error.message, to_metadata(error))
        except (asyncio.CancelledError, grpc.aio.BaseError):
            # The caller has disconnected or its deadline has passed; gRPC itself ends the call.
            expired = context.time_remaining() == 0
            outcome = CALLS.labels(self._name, "DEADLINE_EXCEEDED" if expired else "CANCELLED")
            raise
        finally:
            IN_FLIGHT.dec()
            self._seconds.observe(self._clock.monotonic() - started)
            outcome.inc()

    async def _handle_call(self, request: Any, context: Any) -> Any:
        token, request_id, carrier = _parse_metadata(context.invocation_metadata())
        with as_caller(self._authenticate(token, request_id)), extract(carrier), span(self._name, kind="server"):
            try:
                response = await self._run_with_deadline(request, context)
            except grpc.aio.BaseError:
                raise
            except ArgosyError as error:
                self._log_failure(error)
                raise
            except Exception as error:
                raise self._to_argosy_error(error) from error
            log.debug("grpc_call", method=self._name)
            return response

    def _authenticate(self, token: str, request_id: str) -> Caller:
        try:
            return Caller(self._verifier.verify(token), token, request_id or new_id("req_"))
        except ArgosyError as error:
            log.info("grpc_call_refused", method=self._name, reason=error.reason, request_id=request_id)
            raise

    async def _run_with_deadline(self, request: Any, context: Any) -> Any:
        message = request if self._decode is None else self._decode(request)
        if context.time_remaining() is not None:
            return await self._handle(message, context)
        limit = asyncio.timeout(self._default_seconds)
        try:
            async with limit:
                return await self._handle(message, context)
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceeded(f"not done within {self._default_seconds:g} s") from error
            raise

    def _log_failure(self, error: ArgosyError) -> None:
        write = log.warning if error.kind in WARNING_KINDS else log.info
        message = {} if error.kind in CONTAINS_USER_CONTENT else {"message": error.message}
        write("grpc_call_failed", method=self._name, kind=error.kind, reason=error.reason, param=error.param, **message)

    def _to_argosy_error(self, error: Exception) -> ArgosyError:
        """Make the error for an exception that is no `ArgosyError`: a malformed request, or a bug."""
        if isinstance(error, DecodeError):
            return InvalidRequest("the request is not a message of this method")
        if isinstance(error, NotImplementedError):
            return Unimplemented(f"{self._name} is not implemented")
        log.error("grpc_call_failed", method=self._name, exc_info=error)
        return Internal("internal error")


class Unimplemented(ArgosyError):
    """The method exists but is not implemented yet."""

    kind, reason = Kind.INTERNAL, "UNIMPLEMENTED"


def _parse_metadata(metadata: Any) -> tuple[str, str, dict[str, str]]:
    token = request_id = ""
    carrier: dict[str, str] = {}
    for key, value in metadata or ():
        if key == PRINCIPAL_KEY:
            token = value
        elif key == REQUEST_ID_KEY:
            request_id = value
        elif key in TRACE_KEYS:
            carrier[key] = value
    return token, request_id, carrier


def _as_coroutine(function: Callable[[Any, Any], Any]) -> Handler:
    """Make a coroutine of a streaming method, whether it yields its responses or writes them to the context.

    gRPC would iterate over a generator in the same way; doing it here saves each message a second generator.
    """

    async def run(request: Any, context: Any) -> None:
        responses = function(request, context)
        if inspect.isawaitable(responses):
            await responses
            return
        write = context.write
        # Closed at once, so that the generator's clean-up is done before the call ends.
        async with aclosing(responses):
            async for response in responses:
                await write(response)

    return run
