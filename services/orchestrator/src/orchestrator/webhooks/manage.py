"""Create, change, test and rotate endpoints."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.ids import new_id

from orchestrator.webhooks.model import (
    TEST_EVENT,
    Delivery,
    Endpoint,
    EndpointChange,
    Event,
    check_description,
    check_event_types,
    check_keep_previous,
    event_payload,
)
from orchestrator.webhooks.ports import DeliveryStore, EndpointStore, Resolver
from orchestrator.webhooks.sign import new_secret
from orchestrator.webhooks.targets import Target, TargetPolicy, check_addresses, parse_target

RESOLVE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageEndpoints:
    """The use cases of a tenant's endpoints. They raise what the stores raise."""

    endpoints: EndpointStore
    deliveries: DeliveryStore
    resolver: Resolver
    policy: TargetPolicy
    clock: Clock
    max_endpoints: int

    async def create(self, tenant_id: str, endpoint: EndpointChange) -> tuple[Endpoint, str]:
        """Return the endpoint and its secret. Raises InvalidRequest, WebhookUrlNotAllowed, WebhookEndpointLimit."""
        checked = await self._checked(endpoint)
        secret = new_secret()
        created = await self.endpoints.create(tenant_id, checked, secret, max_endpoints=self.max_endpoints)
        return created, secret

    async def update(self, tenant_id: str, endpoint_id: str, change: EndpointChange) -> Endpoint:
        """Raises InvalidRequest, WebhookUrlNotAllowed, WebhookEndpointNotFound."""
        return await self.endpoints.update(tenant_id, endpoint_id, await self._checked(change))

    async def rotate(self, tenant_id: str, endpoint_id: str, keep: timedelta | None) -> tuple[Endpoint, str]:
        """Return the endpoint and its new secret. Raises InvalidRequest, WebhookEndpointNotFound."""
        secret = new_secret()
        endpoint = await self.endpoints.rotate(tenant_id, endpoint_id, secret, check_keep_previous(keep))
        return endpoint, secret

    async def send_test(self, tenant_id: str, endpoint_id: str) -> Delivery:
        """Raises WebhookEndpointNotFound, WebhookEndpointDisabled."""
        data: dict[str, object] = {"endpoint_id": endpoint_id}
        payload = event_payload(TEST_EVENT, self.clock.now(), data)
        event = Event(tenant_id, new_id("evt_"), TEST_EVENT, payload)
        return await self.deliveries.add_to(endpoint_id, event)

    async def _checked(self, change: EndpointChange) -> EndpointChange:
        if change.url is not None:
            await self._check_name(parse_target(change.url, self.policy))
        if change.description is not None:
            check_description(change.description)
        types = None if change.event_types is None else check_event_types(change.event_types)
        return EndpointChange(change.url, change.description, types, change.enabled)

    async def _check_name(self, target: Target) -> None:
        """Refuse a name that resolves to what is not allowed. One that does not resolve now may do so later."""
        if target.address is not None:
            return
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self.resolver.resolve(target.host)
        except (OSError, TimeoutError):
            return
        if found:
            check_addresses(target, found, self.policy)
