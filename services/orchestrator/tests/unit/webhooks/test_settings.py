"""Settings of webhooks that cannot be honoured are refused."""

from __future__ import annotations

import pytest
from orchestrator.webhooks.settings import WebhooksSection
from pydantic import ValidationError


def test_a_schedule_that_goes_back_in_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="a step of the schedule is not negative"):
        WebhooksSection.model_validate({"schedule": "0,60,-5"})


def test_a_schedule_may_begin_at_once() -> None:
    assert [step.total_seconds() for step in WebhooksSection.model_validate({"schedule": "0, 60"}).schedule] == [0, 60]
