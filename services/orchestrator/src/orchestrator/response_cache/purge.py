"""Forgets cached answers of a tenant, of a model, or of both."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.errors import InvalidRequest

from orchestrator.response_cache.ports import NO_LISTENERS, AnswerStore, PurgeListener


@dataclass(frozen=True, slots=True)
class PurgeCache:
    """`start` runs the removal of bytes in the background."""

    store: AnswerStore
    start: Callable[[Coroutine[Any, Any, object]], object]
    listeners: Sequence[PurgeListener] = NO_LISTENERS

    async def purge(self, tenant_id: str | None, model: str | None) -> None:
        """Forget all answers up to now; None is any tenant, or any model.

        When it returns no replica gives one of them; their bytes are removed soon after. Raises `InvalidRequest` when
        both are None, and `Unavailable` when the store does not answer.
        """
        if tenant_id is None and model is None:
            raise InvalidRequest("name a tenant or a model: all answers of all tenants are not purged at once")
        await self.store.purge(tenant_id, model)
        for listener in self.listeners:
            await listener.purge(tenant_id, model)
        self.start(self.store.remove(tenant_id, model))
