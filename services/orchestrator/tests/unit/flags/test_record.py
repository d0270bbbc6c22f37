"""The flags that a request evaluated, in its log line and on its span."""

import pytest
from chassis.errors import ArgosyError
from chassis.telemetry import span
from chassis.testing.logs import captured_lines
from chassis.testing.traces import recorded_spans
from orchestrator.flags.model import FeatureDisabled
from orchestrator.telemetry import RequestObservation


def observe(flags: dict[str, str], error: ArgosyError | None = None) -> None:
    with span("call"), RequestObservation("generation", "smollm2") as observation:
        observation.flags = flags
        if error is not None:
            raise error


def test_evaluated_flags_are_logged_and_on_the_span_also_of_a_request_that_is_refused() -> None:
    with recorded_spans() as spans, captured_lines() as lines, pytest.raises(FeatureDisabled):
        observe({"model.b": "off", "feature.chat": "on"}, FeatureDisabled("It is off.", param="model.b"))

    assert (lines[-1]["flags"], lines[-1]["reason"]) == ("feature.chat=on,model.b=off", "FEATURE_DISABLED")
    (call,) = spans()
    assert call.attributes is not None
    assert call.attributes["feature_flags"] == ("feature.chat=on", "model.b=off")


def test_without_a_flag_nothing_is_added() -> None:
    with recorded_spans() as spans, captured_lines() as lines:
        observe({})

    assert "flags" not in lines[-1]
    (call,) = spans()
    assert "feature_flags" not in (call.attributes or {})
