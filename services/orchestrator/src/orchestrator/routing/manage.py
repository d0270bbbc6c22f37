"""What operators do to routes. Each change has an author and a reason, and every replica is told of it."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import ArgosyError, InvalidRequest

from orchestrator.configuration.model import Edit
from orchestrator.routing.check import check_route
from orchestrator.routing.choose import RouteCache, RouteStore
from orchestrator.routing.document import document_to_entry
from orchestrator.routing.edit import check_model_name, check_tenant
from orchestrator.routing.model import RouteEntry, RouteNotFound, RouteVersionConflict, StoredRoute


class RouteFacts(Protocol):
    """What a route can name now."""

    async def upstreams(self) -> Collection[str]:
        """Those of the workers' settings, and those that the API has declared. Raises Unavailable."""
        ...

    async def priced(self) -> Collection[str]:
        """The keys of the prices in force. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ManageRoutes:
    """This replica has a change before the call returns."""

    store: RouteStore
    cache: RouteCache
    facts: RouteFacts

    async def get(self, tenant_id: str, model: str) -> StoredRoute:
        """Raises RouteNotFound."""
        return _found(await self.store.find(tenant_id, model), tenant_id, model)

    async def list(self, tenant_id: str) -> Sequence[StoredRoute]:
        """Return a tenant's own routes; those of all tenants for an empty text."""
        return await self.store.stored(tenant_id or None)

    async def checked(self, tenant_id: str, model: str, document: object) -> RouteEntry:
        """Read a route, and check that it could work.

        Raises InvalidRequest, UnknownUpstream, UnpricedCandidate, FallbackCycle; Unavailable when that is not known.
        """
        entry = document_to_entry(check_tenant(tenant_id), check_model_name(model), document)
        check_route(entry, priced=None, upstreams=None)
        if entry.candidates:
            check_route(entry, priced=await self.facts.priced(), upstreams=await self.facts.upstreams())
        return entry

    async def put(
        self, tenant_id: str, model: str, document: object, edit: Edit, *, expected_version: int | None = None
    ) -> StoredRoute:
        """Create or replace a route. Raises what `checked` raises, and RouteVersionConflict."""
        _check_reason(edit)
        entry = await self.checked(tenant_id, model, document)

        def change(stored: StoredRoute | None) -> RouteEntry:
            version = None if stored is None else stored.version
            # A route that was written before versions were kept has the version 0, and is not to be created again.
            wrong = version is not None if expected_version == 0 else version != expected_version
            if expected_version is not None and wrong:
                raise RouteVersionConflict(
                    f"The route {model!r} has the version {version} now, not {expected_version}.", param="version"
                )
            return entry

        stored = await self.store.edit(tenant_id, model, edit, change)
        await self._refresh()
        return _found(stored, tenant_id, model)

    async def delete(self, tenant_id: str, model: str, edit: Edit) -> None:
        """Raises RouteNotFound."""
        _check_reason(edit)

        def change(stored: StoredRoute | None) -> None:
            _found(stored, tenant_id, model)

        await self.store.edit(tenant_id, model, edit, change)
        await self._refresh()

    async def _refresh(self) -> None:
        # The change is stored: a read that fails now is repeated by the feed of the configuration.
        with suppress(ArgosyError):
            await self.cache.refresh()


def _check_reason(edit: Edit) -> None:
    if not edit.reason.strip():
        raise InvalidRequest("A change of a route needs a reason.", param="reason")


def _found(stored: StoredRoute | None, tenant_id: str, model: str) -> StoredRoute:
    if stored is None:
        raise RouteNotFound(f"There is no route {model!r} of {tenant_id}.", param="model")
    return stored
