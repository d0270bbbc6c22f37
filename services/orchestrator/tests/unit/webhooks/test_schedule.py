"""The order in which due deliveries are started."""

from __future__ import annotations

from orchestrator.webhooks.model import DueDelivery
from orchestrator.webhooks.schedule import in_turns


def test_endpoints_take_turns_with_their_deliveries_in_another_order() -> None:
    due = [DueDelivery("ten_1", f"whd_{number}", "busy") for number in range(4)]
    due.insert(1, DueDelivery("ten_2", "whd_quiet", "quiet"))

    started = in_turns(due, lambda of_endpoint: of_endpoint.reverse())

    assert [delivery.delivery_id for delivery in started] == ["whd_3", "whd_quiet", "whd_2", "whd_1", "whd_0"]


def test_without_due_deliveries_nothing_is_started() -> None:
    assert in_turns([], lambda _: None) == []
