"""The gRPC server of a service: servicers behind one pipeline, the exchange, health, reflection, and a drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from rpc import ExchangeServicer
from rpc.metrics import LABELS, METRICS
from rpc.wire import MAX_MESSAGE_BYTES, SERVICE_NAME

from chassis.clock import Clock
from chassis.grpc.pipeline import Method, Pipeline
from chassis.telemetry import list_metrics, logger
from chassis.tenancy import PrincipalVerifier

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A port in use is an error; by default two processes would share it and each get half of the calls.
    ("grpc.so_reuseport", 0),
    # Clients may ping an idle connection; that is how they notice a peer that stopped answering.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # The server notices a client that stopped answering, too, and ends its calls.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)

log = logger("chassis.grpc")

list_metrics(METRICS, LABELS)

# (the generated add_XServicer_to_server, the servicer, the full name of its service)
Registration = tuple[Callable[[Any, Any], None], Any, str]


class GrpcServer:
    """A component that serves `register`ed servicers on `bind` ("host:port"; port 0 takes a free one).

    `stop` reports NOT_SERVING, refuses new calls, and gives those in flight `grace` to end.
    """

    name = "grpc"

    def __init__(
        self,
        bind: str,
        register: Sequence[Registration],
        verifier: PrincipalVerifier,
        clock: Clock,
        grace: timedelta = timedelta(seconds=20),
    ) -> None:
        self._bind = bind
        self._register = register
        self._pipeline = Pipeline(verifier, clock)
        self._grace = grace
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen and serve. Raises `RuntimeError` when the address cannot be bound."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        registry = _HandlerRegistry(server, self._pipeline)
        for add, servicer, _ in self._register:
            add(servicer, registry)
        self._exchange = ExchangeServicer(registry.methods, log)
        server.add_generic_rpc_handlers((self._exchange.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [name for _, _, name in self._register]
        reflection.enable_server_reflection(
            [*names, SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
        try:
            self.port = server.add_insecure_port(self._bind)
        except RuntimeError as error:
            raise RuntimeError(f"cannot listen on {self._bind}: {error}") from error
        await server.start()
        self._server = server
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("grpc_serving", address=self._bind, port=self.port, services=names)

    async def stop(self) -> None:
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._exchange.drain()
        await self._server.stop(self._grace.total_seconds())
        self._server = None


class _HandlerRegistry:
    """Takes the server's place while servicers register, and wraps each of their methods in the pipeline once.

    A server interceptor would have to build a new handler for every call.
    """

    def __init__(self, server: grpc.aio.Server, pipeline: Pipeline) -> None:
        self._server = server
        self._pipeline = pipeline
        self.methods: dict[str, Method] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Do nothing: generated code registers the same methods by name as well."""

    def add_registered_method_handlers(self, service: str, methods: dict[str, Any]) -> None:
        """Register the wrapped methods for gRPC and for the exchange."""
        wrapped = {}
        for name, handler in methods.items():
            path = f"/{service}/{name}"
            self.methods[path] = method = self._pipeline.wrap(path, handler)
            wrapped[name] = method.handler()
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self._server.add_registered_method_handlers(service, wrapped)
