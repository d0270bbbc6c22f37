import pytest
from chassis.telemetry import counter, declared_metrics, gauge, histogram
from chassis.telemetry.metrics import exposition


def test_a_declared_metric_is_listed_and_measured() -> None:
    counter("toy_found_total", "Toys found, by colour.", ("colour",)).labels("red").inc(2)
    gauge("toy_box_fill", "Toys in the box.").set(7)
    histogram("toy_search_seconds", "Seconds until a toy was found.").observe(0.02)

    listed = {metric.name: metric for metric in declared_metrics()}
    text = exposition().decode()

    assert (listed["toy_found_total"].kind, listed["toy_found_total"].labels) == ("counter", ("colour",))
    assert listed["toy_box_fill"].help == "Toys in the box."
    assert 'toy_found_total{colour="red"} 2.0\n' in text
    assert "toy_box_fill 7.0\n" in text
    assert 'toy_search_seconds_bucket{le="0.025"} 1.0\n' in text
    assert "_created" not in text


def test_the_name_of_a_counter_ends_in_total() -> None:
    with pytest.raises(ValueError, match="_total"):
        counter("toy_lost", "Toys lost.")


def test_a_metric_without_help_is_refused() -> None:
    with pytest.raises(ValueError, match="help text"):
        gauge("toy_mystery", " ")


def test_a_name_is_declared_once() -> None:
    gauge("toy_twice", "Declared twice.")

    with pytest.raises(ValueError, match="Duplicated"):
        gauge("toy_twice", "Declared twice.")
