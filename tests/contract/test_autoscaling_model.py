"""What autoscaling by the orchestrator's metric comes to over a day, in virtual time."""

import re

import pytest

from tests.fleet.environment import ROOT
from tests.load import autoscaling
from tests.load.autoscaling import DAY, LOADS, Day, simulate


@pytest.fixture(scope="module")
def days() -> dict[str, Day]:
    return {name: simulate(load) for name, load in LOADS.items()}


@pytest.mark.parametrize("load", LOADS)
def test_a_day_keeps_its_waits_at_little_more_than_the_oracles_cost(days: dict[str, Day], load: str) -> None:
    assert days[load].within_sla >= 0.95
    assert days[load].ratio <= 1.3


def test_an_even_load_changes_direction_less_than_once_in_five_minutes(days: dict[str, Day]) -> None:
    assert days["constant"].turns <= DAY / 300


def test_without_a_window_an_even_load_would_flap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "SCALE_DOWN_WINDOW", 1)

    assert simulate(LOADS["constant"]).turns > DAY / 300


@pytest.mark.parametrize(
    ("name", "value"), [("pollingSeconds", autoscaling.POLLING), ("scaleDownSeconds", autoscaling.SCALE_DOWN_WINDOW)]
)
def test_the_model_has_the_times_of_the_chart(name: str, value: int) -> None:
    values = (ROOT / "helm/argosy/values.yaml").read_text()

    assert re.findall(rf"{name}: (\d+)", values) == [str(value)]
