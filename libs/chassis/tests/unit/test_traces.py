import asyncio
import contextvars
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from chassis.errors import InvalidRequest, Unavailable
from chassis.settings import TelemetrySection
from chassis.telemetry import Telemetry, extract, inject, span
from chassis.tenancy import acting
from chassis.testing import a_caller, a_principal, free_port
from chassis.testing.traces import recorded_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.trace import SpanKind, StatusCode


def test_without_an_endpoint_nothing_is_recorded_or_passed_on() -> None:
    carrier: dict[str, str] = {}
    with span("play", toy="bear") as playing, extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}):
        playing.set(colour="red")
        inject(carrier)

    assert carrier == {}


def test_a_span_has_its_parent_its_kind_its_attributes_and_who_asked() -> None:
    with recorded_spans() as ended, acting(a_caller(a_principal("ten_7"), "req_7")):
        with span("outer", kind="server"), span("inner", toy="bear", nothing=None) as inner:
            inner.set(colour="red")
        first, second = ended()

    assert (first.name, second.name, second.kind) == ("inner", "outer", SpanKind.SERVER)
    assert first.parent is not None
    assert first.parent.span_id == second.context.span_id
    assert dict(first.attributes or {}) == {"toy": "bear", "colour": "red", "request_id": "req_7", "tenant_id": "ten_7"}


def test_a_trace_goes_on_where_another_process_left_it() -> None:
    carrier: dict[str, str] = {}
    with recorded_spans() as ended:
        with span("caller", kind="client"):
            inject(carrier)
        with extract(carrier), span("callee", kind="server"):
            pass
        with span("unrelated"):
            pass
        caller, callee, unrelated = ended()

    assert callee.context.trace_id == caller.context.trace_id != unrelated.context.trace_id
    assert callee.parent is not None
    assert callee.parent.span_id == caller.context.span_id


@pytest.mark.parametrize("carrier", [{}, {"traceparent": "garbage"}, {"traceparent": ""}])
def test_a_carrier_without_a_trace_begins_a_new_one(carrier: dict[str, str]) -> None:
    with recorded_spans() as ended, extract(carrier), span("callee"):
        pass

    assert ended()[0].parent is None


@pytest.mark.parametrize(
    ("error", "kind"), [(Unavailable("nobody plays"), "SERVICE_UNAVAILABLE"), (RuntimeError("broken"), "RuntimeError")]
)
def test_an_error_is_recorded_and_goes_on(error: Exception, kind: str) -> None:
    with recorded_spans() as ended, pytest.raises(type(error)), span("play"):
        raise error

    (failed,) = ended()
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == kind
    assert [event.name for event in failed.events] == ["exception"]


def test_words_that_may_be_the_requests_are_not_recorded() -> None:
    with recorded_spans() as ended, pytest.raises(InvalidRequest), span("play"):
        raise InvalidRequest("'my secret prompt' is no toy")

    (failed,) = ended()
    assert (failed.attributes or {})["error.type"] == "INVALID_REQUEST"
    assert "secret" not in failed.to_json()


async def test_being_cancelled_is_noted_and_no_error() -> None:
    async def forever() -> None:
        with span("wait"):
            await asyncio.Event().wait()

    with recorded_spans() as ended:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    (cancelled,) = ended()
    assert cancelled.status.status_code is StatusCode.UNSET
    assert (cancelled.attributes or {})["cancelled"] is True


def test_a_span_that_ends_in_another_context_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with recorded_spans() as ended:
        block = span("stream")
        contextvars.copy_context().run(block.__enter__)
        block.__exit__(None, None, None)

        assert [one.name for one in ended()] == ["stream"]
    assert caplog.records == []


class Collector:
    """Receives what an exporter sends."""

    def __init__(self, server: Any, port: int) -> None:
        self.server, self.endpoint = server, f"http://127.0.0.1:{port}"
        self.spans: list[tuple[str, str]] = []

    async def export(self, request: ExportTraceServiceRequest, _: Any) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.spans += [(service, one.name) for scope in resource.scope_spans for one in scope.spans]
        return ExportTraceServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    server = grpc.aio.server()
    made = Collector(server, server.add_insecure_port("127.0.0.1:0"))
    export = grpc.unary_unary_rpc_method_handler(
        made.export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": export}),))
    await server.start()
    yield made
    await server.stop(0)


@pytest.mark.usefixtures("logs_as_they_were")
async def test_what_was_recorded_is_sent_before_the_process_ends(collector: Collector) -> None:
    telemetry = Telemetry("toy", TelemetrySection(otlp_endpoint=collector.endpoint, sample_ratio=1))
    with span("play"):
        pass
    await telemetry.close()

    assert collector.spans == [("toy", "play")]


@pytest.mark.usefixtures("logs_as_they_were")
async def test_the_ratio_decides_where_no_caller_did_and_nowhere_else(collector: Collector) -> None:
    telemetry = Telemetry("toy", TelemetrySection(otlp_endpoint=collector.endpoint, sample_ratio=0))
    with span("unsampled"):
        pass
    with extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}), span("sampled by its caller"):
        pass
    await telemetry.close()

    assert collector.spans == [("toy", "sampled by its caller")]


@pytest.mark.usefixtures("logs_as_they_were")
async def test_a_collector_that_is_away_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.telemetry.traces.FLUSH_SECONDS", 0.2)
    telemetry = Telemetry("toy", TelemetrySection(otlp_endpoint=f"http://127.0.0.1:{free_port()}", sample_ratio=1))
    with span("play"):
        pass

    started = time.monotonic()
    await telemetry.close()

    assert time.monotonic() - started < 2
    await telemetry.close()
