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
from chassis.telemetry.otlp import SdkTracer
from chassis.telemetry.spans import tracing_with
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal, free_port
from chassis.testing.traces import recorded_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode


def test_without_an_endpoint_nothing_is_recorded_or_passed_on() -> None:
    carrier: dict[str, str] = {}
    with span("play", toy="bear") as playing, extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}):
        playing.set(colour="red")
        inject(carrier)

    assert carrier == {}


def test_a_span_has_its_parent_kind_attributes_and_caller() -> None:
    with recorded_spans() as ended, as_caller(a_caller(a_principal("ten_7"), "req_7")):
        with span("outer", kind="server"), span("inner", toy="bear", nothing=None) as inner:
            inner.set(colour="red")
        first, second = ended()

    assert (first.name, second.name, second.kind) == ("inner", "outer", SpanKind.SERVER)
    assert first.parent is not None
    assert first.parent.span_id == second.context.span_id
    assert dict(first.attributes or {}) == {"toy": "bear", "colour": "red", "request_id": "req_7", "tenant_id": "ten_7"}


def test_a_trace_continues_from_another_process() -> None:
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


def test_messages_that_may_quote_the_request_are_not_exported() -> None:
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


def test_an_unsampled_trace_is_propagated_as_unsampled() -> None:
    carrier: dict[str, str] = {}
    with recorded_spans(ratio=0) as ended:
        with span("outer"), span("inner"):
            inject(carrier)
        with extract(carrier), span("callee"):
            onward: dict[str, str] = {}
            inject(onward)

        assert ended() == []
    assert carrier["traceparent"].endswith("-00")
    assert onward["traceparent"].split("-")[1] == carrier["traceparent"].split("-")[1]
    assert onward["traceparent"].endswith("-00")


def test_a_failure_is_recorded_though_its_trace_is_not_kept() -> None:
    carrier: dict[str, str] = {}
    before = time.time_ns()
    with recorded_spans(ratio=0) as ended:
        with pytest.raises(Unavailable), span("caller", kind="client", toy="bear"):  # noqa: PT012 - nested spans
            inject(carrier)
            with extract(carrier), span("callee", kind="server"), span("done before"):
                pass
            with extract(carrier), span("callee", kind="server") as callee:
                callee.set(colour="red")
                raise Unavailable("nobody plays")
        with span("after"):
            pass
        callee_span, caller_span = ended()

    assert (callee_span.name, caller_span.name) == ("callee", "caller")
    assert callee_span.context.trace_id == caller_span.context.trace_id
    assert callee_span.context.trace_flags.sampled
    assert callee_span.parent is not None
    assert callee_span.parent.span_id == caller_span.context.span_id == int(carrier["traceparent"].split("-")[2], 16)
    assert dict(callee_span.attributes or {}) == {"colour": "red", "error.type": "SERVICE_UNAVAILABLE"}
    assert (callee_span.status.status_code, callee_span.kind) == (StatusCode.ERROR, SpanKind.SERVER)
    assert [event.name for event in callee_span.events] == ["exception"]
    assert callee_span.start_time is not None
    assert callee_span.end_time is not None
    assert before <= callee_span.start_time <= callee_span.end_time <= time.time_ns()


@pytest.mark.parametrize("ratio", [0, 1])
def test_a_span_can_be_marked_as_failed(ratio: float) -> None:
    with recorded_spans(ratio) as ended, span("play") as playing:
        playing.fail(Unavailable("nobody plays"))
    (failed,) = ended()

    assert failed.status.status_code is StatusCode.ERROR
    assert dict(failed.attributes or {})["error.type"] == "SERVICE_UNAVAILABLE"


def test_being_cancelled_is_no_reason_to_record_what_is_not_kept() -> None:
    with recorded_spans(ratio=0) as ended, pytest.raises(asyncio.CancelledError), span("play"):
        raise asyncio.CancelledError

    assert ended() == []


def test_an_unserializable_attribute_does_not_fail_the_span() -> None:
    with recorded_spans() as ended, span("play", toy=object(), size=3):
        pass

    assert dict(ended()[0].attributes or {})["size"] == 3


def test_a_failing_exporter_does_not_fail_its_caller() -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("full")

    with tracing_with(SdkTracer(Broken(), Resource.get_empty(), 1)), span("play"):
        pass


@pytest.mark.parametrize(
    ("state", "passed_on"), [("a=1,b=2", "a=1,b=2"), ("", None), ("no state", None), ("a=\u00e9", None)]
)
def test_a_well_formed_tracestate_is_passed_on(state: str, passed_on: str | None) -> None:
    onward: dict[str, str] = {}
    with recorded_spans() as ended:
        with extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": state}), span("callee"):
            inject(onward)
        (callee,) = ended()

    assert onward.get("tracestate") == passed_on
    assert callee.context.trace_state.to_header() == (passed_on or "")


@pytest.mark.parametrize(
    "parent",
    [
        f"ff-{'1' * 32}-{'2' * 16}-01",
        f"00-{'0' * 32}-{'2' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"00-{'1' * 32}-{'2' * 16}-01-more",
        f"00-{'A' * 32}-{'2' * 16}-01",
        f"00-{'1' * 31}-{'2' * 16}-01",
    ],
)
def test_a_parent_that_the_standard_forbids_is_none(parent: str) -> None:
    with recorded_spans() as ended, extract({"traceparent": parent}), span("callee"):
        pass

    assert ended()[0].parent is None


def test_a_later_version_of_the_standard_is_read_as_far_as_it_is_known() -> None:
    with recorded_spans() as ended, extract({"traceparent": f"01-{'1' * 32}-{'2' * 16}-01-more"}), span("callee"):
        pass

    assert f"{ended()[0].context.trace_id:032x}" == "1" * 32


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
async def test_a_failure_reaches_the_collector_at_any_ratio(collector: Collector) -> None:
    telemetry = Telemetry("toy", TelemetrySection(otlp_endpoint=collector.endpoint, sample_ratio=0))
    with pytest.raises(RuntimeError), span("broken"):
        raise RuntimeError("broken")
    await telemetry.close()

    assert collector.spans == [("toy", "broken")]


@pytest.mark.usefixtures("logs_as_they_were")
async def test_an_unreachable_collector_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.telemetry.traces.FLUSH_TIMEOUT_SECONDS", 0.2)
    telemetry = Telemetry("toy", TelemetrySection(otlp_endpoint=f"http://127.0.0.1:{free_port()}", sample_ratio=1))
    with span("play"):
        pass

    started = time.monotonic()
    await telemetry.close()

    assert time.monotonic() - started < 2
    await telemetry.close()
