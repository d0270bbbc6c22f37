"""The contract of pauses. Subclasses give `queues`, without pauses."""

from orchestrator.queues.model import PauseSelector
from orchestrator.queues.ports import QueueStore

OF_TENANT, OF_POOL = PauseSelector(tenant_id="ten_1"), PauseSelector(pool="gpu")
OF_MODEL_OF_TENANT = PauseSelector(tenant_id="ten_1", model="smollm2")


class QueuePausesContract:
    async def test_pauses_are_listed_in_the_order_in_which_they_were_made(self, queues: QueueStore) -> None:
        for selector in (OF_POOL, OF_TENANT, OF_MODEL_OF_TENANT):
            await queues.pause(selector)

        assert list(await queues.list_pauses()) == [OF_POOL, OF_TENANT, OF_MODEL_OF_TENANT]

    async def test_a_pause_made_twice_is_there_once(self, queues: QueueStore) -> None:
        await queues.pause(OF_TENANT)
        await queues.pause(OF_TENANT)

        assert list(await queues.list_pauses()) == [OF_TENANT]

    async def test_exactly_the_named_pause_ends(self, queues: QueueStore) -> None:
        await queues.pause(OF_TENANT)
        await queues.pause(OF_MODEL_OF_TENANT)

        await queues.resume(OF_TENANT)
        await queues.resume(OF_POOL)

        assert list(await queues.list_pauses()) == [OF_MODEL_OF_TENANT]
