"""An OTLP receiver: keeps the spans that the fleet exports."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc


@dataclass(frozen=True, slots=True)
class Span:
    """The fields of a span that tests need."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]


@dataclass(slots=True)
class Receiver(rpc.TraceServiceServicer):
    """Collects spans of all services."""

    spans: list[Span] = field(default_factory=list)

    def Export(  # noqa: N802 - the protocol's name
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = next((a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), "")
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        service,
                        s.name,
                        s.trace_id.hex(),
                        s.span_id.hex(),
                        s.parent_span_id.hex(),
                        {a.key: a.value.string_value for a in s.attributes},
                    )
                    for s in scope.spans
                ]
        return pb.ExportTraceServiceResponse()


@contextmanager
def receiving(port: int) -> Iterator[Receiver]:
    """Receive on a port of the loopback while the block runs."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    rpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0).wait()
