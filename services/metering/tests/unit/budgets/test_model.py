import pytest
from metering.budgets.model import Budget
from values.money import NanoUsd


@pytest.mark.parametrize(
    ("spent", "held", "passed"), [(79, 0, False), (80, 0, True), (40, 40, True), (40, 39, False), (0, 100, True)]
)
def test_the_soft_limit_is_passed_by_what_is_spent_and_held_together(spent: int, held: int, passed: bool) -> None:
    assert Budget(NanoUsd(100), NanoUsd(spent), NanoUsd(held)).has_passed(80) is passed
