"""Create, change and rotate endpoints: what is refused before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from orchestrator.webhooks.manage import ManageEndpoints
from orchestrator.webhooks.model import EndpointChange, Event, WebhookUrlNotAllowed
from orchestrator.webhooks.targets import TargetPolicy

GOOD = EndpointChange("https://example.com/hook", "", ())


class Stores:
    """Records what reaches the stores."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def create(self, tenant_id: str, endpoint: EndpointChange, secret: str, *, max_endpoints: int) -> Any:
        self.calls.append((tenant_id, endpoint, secret, max_endpoints))

    async def update(self, tenant_id: str, endpoint_id: str, change: EndpointChange) -> Any:
        self.calls.append((tenant_id, endpoint_id, change))

    async def rotate(self, tenant_id: str, endpoint_id: str, secret: str, keep: timedelta) -> Any:
        self.calls.append((tenant_id, endpoint_id, secret, keep))

    async def add_to(self, endpoint_id: str, event: Event) -> Any:
        self.calls.append((endpoint_id, event))


class Names:
    def __init__(self, found: Sequence[str] | OSError) -> None:
        self._found = found

    async def resolve(self, host: str) -> Sequence[str]:
        if isinstance(self._found, OSError):
            raise self._found
        return self._found


def manage(stores: Stores, found: Sequence[str] | OSError = ("1.1.1.1",)) -> ManageEndpoints:
    anything: Any = stores
    return ManageEndpoints(
        endpoints=anything,
        deliveries=anything,
        resolver=Names(found),
        policy=TargetPolicy(),
        clock=FakeClock(),
        max_endpoints=3,
    )


async def test_an_endpoint_is_created_with_a_secret_of_its_own() -> None:
    stores = Stores()
    _, secret = await manage(stores).create("ten_1", EndpointChange(GOOD.url, "mine", ("job.failed", "job.failed")))

    assert stores.calls == [("ten_1", EndpointChange(GOOD.url, "mine", ("job.failed",)), secret, 3)]
    assert secret.startswith("whsec_")


@pytest.mark.parametrize("found", [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::ffff:169.254.169.254"]])
async def test_a_name_at_a_private_address_is_refused(found: list[str]) -> None:
    stores = Stores()
    for attempt in (
        manage(stores, found).create("ten_1", GOOD),
        manage(stores, found).update("ten_1", "whe_1", EndpointChange(GOOD.url)),
    ):
        with pytest.raises(WebhookUrlNotAllowed):
            await attempt
    assert stores.calls == []


async def test_a_private_url_is_refused_without_a_look_at_dns() -> None:
    for url in ("https://127.0.0.1/", "http://example.com/", "https://[::1]/", "https://metadata.google.internal/"):
        with pytest.raises(WebhookUrlNotAllowed):
            await manage(Stores(), OSError("no DNS")).create("ten_1", EndpointChange(url, "", ()))


@pytest.mark.parametrize("found", [OSError("no such name"), []])
async def test_a_name_that_does_not_resolve_yet_is_accepted(found: Any) -> None:
    stores = Stores()
    await manage(stores, found).create("ten_1", GOOD)

    assert len(stores.calls) == 1


@pytest.mark.parametrize(
    "change",
    [
        EndpointChange(GOOD.url, "", ("job.exploded",)),
        EndpointChange(GOOD.url, "x" * 501, ()),
        EndpointChange(GOOD.url, "\x00", ()),
    ],
)
async def test_what_cannot_be_stored_is_refused(change: EndpointChange) -> None:
    with pytest.raises(InvalidRequest):
        await manage(Stores()).create("ten_1", change)


async def test_an_old_secret_is_kept_for_a_day_unless_said_otherwise() -> None:
    stores = Stores()
    for keep in (None, timedelta(0), timedelta(days=7)):
        await manage(stores).rotate("ten_1", "whe_1", keep)
    assert [call[-1] for call in stores.calls] == [timedelta(days=1), timedelta(0), timedelta(days=7)]
    assert len({call[2] for call in stores.calls}) == 3
    for keep in (timedelta(seconds=-1), timedelta(days=7, seconds=1)):
        with pytest.raises(InvalidRequest):
            await manage(stores).rotate("ten_1", "whe_1", keep)


async def test_a_test_event_is_for_one_endpoint() -> None:
    stores = Stores()
    await manage(stores).send_test("ten_1", "whe_1")

    ((endpoint_id, event),) = stores.calls
    assert (endpoint_id, event.tenant_id, event.type) == ("whe_1", "ten_1", "webhook_endpoint.test")
    assert orjson.loads(event.payload)["data"] == {"endpoint_id": "whe_1"}
