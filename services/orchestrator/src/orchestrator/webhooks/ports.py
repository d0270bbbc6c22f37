"""The ports of webhooks."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator.webhooks.model import (
    Answer,
    ClaimedDelivery,
    Delivery,
    DeliveryDetail,
    DeliveryFilter,
    Disabled,
    DueDelivery,
    Endpoint,
    EndpointChange,
    Event,
)


class Resolver(Protocol):
    """DNS."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Return all addresses of a name. Raises OSError."""


class Sender(Protocol):
    """Posts a delivery."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Make one request: no redirects, no retries, bounded in time and size. It never raises."""


class SecretCipher(Protocol):
    """Encrypts the secrets of endpoints."""

    def seal(self, secret: str, owner: str) -> bytes:
        """Encrypt for one owner. Raises WebhooksNotConfigured."""

    def open(self, sealed: bytes, owner: str) -> str:
        """Decrypt what was sealed for this owner. Raises WebhooksNotConfigured."""

    def reseal(self, sealed: bytes, owner: str) -> bytes | None:
        """Encrypt with the first key; None when it is. Raises WebhooksNotConfigured."""


class EndpointStore(Protocol):
    """Endpoints of one tenant. Methods that name one raise WebhookEndpointNotFound."""

    async def create(self, tenant_id: str, endpoint: EndpointChange, secret: str, *, max_endpoints: int) -> Endpoint:
        """Raises WebhookEndpointLimit."""

    async def get(self, tenant_id: str, endpoint_id: str) -> Endpoint: ...

    async def list(self, tenant_id: str, *, limit: int, after: str) -> tuple[Sequence[Endpoint], bool]:
        """The newest first, and whether there are more."""

    async def update(self, tenant_id: str, endpoint_id: str, change: EndpointChange) -> Endpoint:
        """Enabling forgets failures; disabling cancels waiting deliveries."""

    async def delete(self, tenant_id: str, endpoint_id: str) -> None:
        """Waiting deliveries are cancelled."""

    async def rotate(self, tenant_id: str, endpoint_id: str, secret: str, keep_previous: timedelta) -> Endpoint:
        """The secret until now signs for `keep_previous` longer; one that was old already is dropped."""


class DeliveryStore(Protocol):
    """Deliveries of one tenant."""

    async def add(self, events: Sequence[Event]) -> int:
        """Make a delivery for each endpoint that wants an event, of any tenant; return how many.

        Idempotent on (tenant, event, endpoint).
        """

    async def add_to(self, endpoint_id: str, event: Event) -> Delivery:
        """Make a delivery for one endpoint. Raises WebhookEndpointNotFound, WebhookEndpointDisabled."""

    async def list(
        self, tenant_id: str, wanted: DeliveryFilter, *, limit: int, after: str
    ) -> tuple[Sequence[Delivery], bool]:
        """The newest first, and whether there are more."""

    async def get(self, tenant_id: str, delivery_id: str) -> DeliveryDetail:
        """Raises WebhookDeliveryNotFound."""

    async def redeliver(self, tenant_id: str, delivery_id: str) -> Delivery:
        """Make it due now; one that is being attempted stays as it is.

        Raises WebhookDeliveryNotFound, WebhookEndpointDisabled.
        """


class DeliveryQueue(Protocol):
    """Deliveries of all tenants, to be attempted."""

    async def find_due(self, limit: int, per_endpoint: int, rooms: Mapping[str, int]) -> Sequence[DueDelivery]:
        """Endpoints take turns; each gets at most `per_endpoint`, or its own room if `rooms` names it."""

    async def claim(self, due: DueDelivery, lease: timedelta) -> ClaimedDelivery | None:
        """None when another process was faster."""

    async def record_success(self, claimed: ClaimedDelivery, answer: Answer, took: timedelta) -> None:
        """Log the attempt and finish the delivery. Ignored when the claim is lost."""

    async def record_failure(
        self,
        claimed: ClaimedDelivery,
        answer: Answer,
        took: timedelta,
        next_attempt_at: datetime | None,
    ) -> Disabled | None:
        """Log the attempt; disable the endpoint if that is due, and tell the tenant's other endpoints of it."""

    async def cancel(self, claimed: ClaimedDelivery) -> None:
        """Finish a delivery whose endpoint is gone or disabled."""
