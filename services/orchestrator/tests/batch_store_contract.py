"""The contract of a batch store. Subclasses give `store`, and `finished_events`, which returns ids of batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.tenancy import Principal
from orchestrator.batches.model import (
    Batch,
    BatchFinished,
    BatchIdReused,
    BatchLeaseLost,
    BatchLimitReached,
    BatchNotFound,
    BatchState,
    LineError,
    NewBatch,
)
from orchestrator.batches.ports import BatchClaim, BatchFiles, BatchStore

FinishedEvents = Callable[[], Awaitable[list[str]]]
LEASE, DAY = timedelta(minutes=5), timedelta(days=1)
CHAT = "/v1/chat/completions"


def a_caller() -> Principal:
    return Principal(new_id("ten_"), "prj_1", "key_1", "usr_1", frozenset({"member"}), "pro")


async def a_batch(store: BatchStore, caller: Principal) -> Batch:
    return await store.create(caller, NewBatch(new_id("batch_"), CHAT, "file-1", metadata={"a": "ü"}), DAY, 100)


async def claim_of(store: BatchStore, batch: Batch) -> BatchClaim:
    claims = await store.claim_due(1_000, LEASE)
    (mine,) = [claim for claim in claims if claim.batch.batch_id == batch.batch_id]
    return mine


class BatchStoreContract:
    async def test_a_batch_is_read_as_it_was_made_and_only_by_its_tenant(self, store: BatchStore) -> None:
        caller = a_caller()
        batch = await a_batch(store, caller)

        assert await store.get(caller.tenant_id, batch.batch_id) == batch
        assert (batch.state, batch.total, batch.completed, batch.failed) == (BatchState.VALIDATING, 0, 0, 0)
        assert batch.expires_at - batch.created_at == DAY
        assert batch.metadata == {"a": "ü"}
        principal = batch.principal
        assert (principal.project_id, principal.key_id, principal.user_id, principal.plan) == (
            *("prj_1", "key_1", "usr_1", "pro"),
        )
        assert principal.roles == {"service"}
        with pytest.raises(BatchNotFound):
            await store.get("ten_other", batch.batch_id)

    async def test_making_a_batch_again_returns_it_and_another_of_its_id_is_refused(self, store: BatchStore) -> None:
        caller = a_caller()
        batch = await a_batch(store, caller)

        again = await store.create(caller, NewBatch(batch.batch_id, CHAT, "file-1", metadata={"a": "ü"}), DAY, 1)
        assert again == batch
        for other in (
            NewBatch(batch.batch_id, CHAT, "file-2", metadata={"a": "ü"}),
            NewBatch(batch.batch_id, CHAT, "file-1"),
        ):
            with pytest.raises(BatchIdReused):
                await store.create(caller, other, DAY, 9)

    async def test_a_tenant_has_only_so_many_unfinished_batches(self, store: BatchStore) -> None:
        caller = a_caller()
        first = await a_batch(store, caller)
        another = NewBatch(new_id("batch_"), CHAT, "file-1")
        with pytest.raises(BatchLimitReached):
            await store.create(caller, another, DAY, 1)

        await store.fail(await claim_of(store, first), [])
        assert (await store.create(caller, another, DAY, 1)).batch_id == another.batch_id

    async def test_batches_are_listed_newest_first_page_by_page(self, store: BatchStore) -> None:
        caller = a_caller()
        ids = [(await a_batch(store, caller)).batch_id for _ in range(3)]
        await a_batch(store, a_caller())

        first = await store.list_batches(caller.tenant_id, limit=2, after="")
        rest = await store.list_batches(caller.tenant_id, limit=2, after=first[-1].batch_id)
        assert [batch.batch_id for batch in (*first, *rest)] == ids[::-1]

    async def test_of_two_claimers_one_gets_a_batch(self, store: BatchStore) -> None:
        batch = await a_batch(store, a_caller())
        claim = await claim_of(store, batch)

        again = await store.claim_due(1_000, LEASE)
        assert batch.batch_id not in {other.batch.batch_id for other in again}
        assert claim.batch.crashes == 1

    async def test_an_owner_whose_lease_was_claimed_by_another_writes_nothing(self, store: BatchStore) -> None:
        batch = await a_batch(store, a_caller())
        old = await claim_of(store, batch)
        await store.release(old, timedelta(0))
        new = await claim_of(store, batch)
        assert new.batch.crashes == 1

        for write in (
            store.extend(old, LEASE),
            store.release(old, LEASE),
            store.start(old, 9),
            store.record_lines(old, 9, [], LEASE, last=True),
            store.begin_finalizing(old),
            store.fail(old, []),
            store.finish(old, BatchState.COMPLETED, BatchFiles()),
        ):
            with pytest.raises(BatchLeaseLost):
                await write
        unchanged = await store.get(batch.tenant_id, batch.batch_id)
        assert (unchanged.state, unchanged.total, unchanged.lines_read) == (BatchState.VALIDATING, 0, 0)

    async def test_errors_of_lines_are_kept_with_what_was_read_and_counted(self, store: BatchStore) -> None:
        batch = await a_batch(store, a_caller())
        claim = await claim_of(store, batch)
        started = await store.start(claim, 3)
        assert (started.state, started.total) == (BatchState.IN_PROGRESS, 3)
        errors = [
            LineError(2, InvalidRequest("line 2: no", param="body"), "b\x00"),
            LineError(7, InvalidRequest("line 7: no")),
        ]

        await store.record_lines(claim, 7, errors, LEASE, last=False)
        await store.record_lines(claim, 9, errors, LEASE, last=True)

        read = await store.get(batch.tenant_id, batch.batch_id)
        assert (read.lines_read, read.submitted, read.failed) == (9, True, 2)
        first, second = await store.line_errors(batch.tenant_id, batch.batch_id, after=0, limit=9)
        assert (first.line, first.error.param, first.error.message) == (2, "body", "line 2: no")
        assert (second.line, second.custom_id, second.error.reason) == (7, None, "INVALID_REQUEST")
        assert [one.line for one in await store.line_errors(batch.tenant_id, batch.batch_id, after=2, limit=9)] == [7]

    async def test_a_finished_batch_is_final_with_one_event(
        self, store: BatchStore, finished_events: FinishedEvents
    ) -> None:
        batch = await a_batch(store, a_caller())
        claim = await claim_of(store, batch)
        await store.begin_finalizing(claim)
        await store.finish(claim, BatchState.COMPLETED, BatchFiles("file-out", "file-err", 5, 1))

        final = await store.get(batch.tenant_id, batch.batch_id)
        assert (final.state, final.output_file_id, final.error_file_id) == ("completed", "file-out", "file-err")
        assert (final.completed, final.failed) == (5, 1)
        assert final.finished_at is not None
        assert final.finalizing_at is not None
        with pytest.raises(BatchLeaseLost):
            await store.finish(claim, BatchState.COMPLETED, BatchFiles())
        with pytest.raises(BatchFinished):
            await store.request_cancel(batch.tenant_id, batch.batch_id)
        assert (await finished_events()).count(batch.batch_id) == 1

    async def test_a_failed_batch_says_why(self, store: BatchStore, finished_events: FinishedEvents) -> None:
        batch = await a_batch(store, a_caller())
        await store.fail(await claim_of(store, batch), [LineError(3, InvalidRequest("line 3: no", param="url"))])

        final = await store.get(batch.tenant_id, batch.batch_id)
        (error,) = final.errors
        assert (final.state, error.line, error.error.message) == (BatchState.FAILED, 3, "line 3: no")
        assert (error.error.reason, error.error.param) == ("INVALID_REQUEST", "url")
        assert batch.batch_id in await finished_events()

    async def test_a_batch_that_is_to_be_cancelled_says_so(self, store: BatchStore) -> None:
        batch = await a_batch(store, a_caller())
        cancelling = await store.request_cancel(batch.tenant_id, batch.batch_id)
        assert cancelling.state is BatchState.CANCELLING
        assert cancelling.cancelling_at is not None
        again = await store.request_cancel(batch.tenant_id, batch.batch_id)
        assert again.cancelling_at == cancelling.cancelling_at

        claim = await claim_of(store, batch)
        assert (await store.start(claim, 4)).state is BatchState.CANCELLING
        with pytest.raises(BatchNotFound):
            await store.request_cancel("ten_other", batch.batch_id)
