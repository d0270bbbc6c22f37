"""Copies that are written out field by field, against those of `dataclasses.replace`."""

from dataclasses import replace
from typing import Any

import pytest
from metering.settlement.model import Attempt, UsageEvent

ATTEMPT_FIELDS = list(Attempt.__dataclass_fields__)
EVENT_FIELDS = list(UsageEvent.__dataclass_fields__)


def anything() -> Any:
    return object()


def filled(kind: Any, fields: list[str]) -> Any:
    """An object whose fields all have different values."""
    return kind(**{field: anything() for field in fields})


@pytest.mark.parametrize("field", ATTEMPT_FIELDS)
def test_a_priced_attempt_keeps_each_other_field(field: str) -> None:
    attempt, price, full = filled(Attempt, ATTEMPT_FIELDS), anything(), anything()
    expected = replace(attempt, price=price, full_price=full)
    assert getattr(attempt.priced(price, full), field) is getattr(expected, field)


@pytest.mark.parametrize("field", EVENT_FIELDS)
def test_an_event_with_other_attempts_keeps_each_other_field(field: str) -> None:
    event, attempts = filled(UsageEvent, EVENT_FIELDS), anything()
    expected = replace(event, attempts=attempts)
    assert getattr(event.with_attempts(attempts), field) is getattr(expected, field)
