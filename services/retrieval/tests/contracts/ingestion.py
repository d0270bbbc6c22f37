"""Tests of IngestionStore: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import asyncio

import pytest
from chassis.testing import a_principal
from retrieval.embeddings.model import fingerprint
from retrieval.ingestion.model import ClaimLost
from retrieval.parsing.model import FileWarning
from retrieval.quotas.model import Quota, StorageQuotaExceeded
from retrieval.search.model import ChunkKey
from retrieval.vector_stores.model import AttachmentKey, AttachmentState

from services.retrieval.tests.tenants import LONG, NOW, Tenant, embedded
from services.retrieval.tests.texts import a_vector, cosine


class IngestionStoreContract:
    async def test_a_claim_has_the_file_and_the_principal_that_pays(self, one: Tenant) -> None:
        claim = await one.claimed()

        assert (claim.filename, claim.size_bytes, claim.chunks, claim.crashes) == ("a.txt", 10, 0, 0)
        assert claim.principal.tenant_id == one.tenant_id
        assert (claim.principal.project_id, claim.principal.key_id) == ("prj_test", "key_test")

    async def test_an_attachment_is_claimed_by_one_process_until_the_lease_ends(self, one: Tenant) -> None:
        held, expired = await one.claimed(LONG), await one.claimed(NOW)

        assert await one.ports.ingestion_store.claim(held.key, LONG) is None
        again = await one.ports.ingestion_store.claim(expired.key, LONG)
        assert again is not None
        assert (again.epoch, again.crashes) == (expired.epoch + 1, 1)

    async def test_a_lost_claim_can_write_nothing(self, one: Tenant) -> None:
        lost = await one.claimed(NOW)
        await one.claim(lost.key.vector_store_id, lost.key.file_id)
        ingestion_store = one.ports.ingestion_store

        for write in (
            ingestion_store.add_chunks(lost, embedded(["text"]), LONG),
            ingestion_store.extend(lost, LONG),
            ingestion_store.index_keywords(lost, LONG),
            ingestion_store.complete(lost),
            ingestion_store.finish(lost, embedded(["text"])),
            ingestion_store.fail(lost, "empty_file", ""),
            ingestion_store.release(lost, NOW, failed=True),
        ):
            with pytest.raises(ClaimLost):
                await write
        attachment = await one.ports.stores.attachment(one.tenant_id, lost.key.vector_store_id, lost.key.file_id)
        assert (attachment.state, attachment.chunks) == (AttachmentState.IN_PROGRESS, 0)

    @pytest.mark.parametrize("end", ["detach", "reattach", "delete_file", "delete_store"])
    async def test_a_claim_on_a_deleted_attachment_can_write_nothing(self, one: Tenant, end: str) -> None:
        claim = await one.claimed()
        key = claim.key
        if end == "delete_file":
            await one.ports.files.delete(one.tenant_id, key.file_id)
        elif end == "delete_store":
            await one.ports.stores.delete(one.tenant_id, key.vector_store_id)
        else:
            await one.ports.stores.detach(one.tenant_id, key.vector_store_id, key.file_id)
        if end == "reattach":
            await one.ports.stores.attach(a_principal(one.tenant_id), key.vector_store_id, key.file_id)

        with pytest.raises(ClaimLost):
            await one.ports.ingestion_store.add_chunks(claim, embedded(["text"]), LONG)

    async def test_the_cursor_moves_with_the_chunks_and_survives_a_lost_claim(self, one: Tenant) -> None:
        claim = await one.claimed()
        await one.ports.ingestion_store.add_chunks(claim, embedded(["one", "two"]), NOW)

        again = await one.claim(claim.key.vector_store_id, claim.key.file_id)

        assert (again.chunks, again.crashes) == (2, 0)
        await one.ports.ingestion_store.add_chunks(again, embedded(["three"], first=2), LONG)
        attachment = await one.ports.stores.attachment(one.tenant_id, claim.key.vector_store_id, claim.key.file_id)
        assert attachment.chunks == 3

    async def test_searches_find_nothing_before_completion(self, one: Tenant) -> None:
        claim = await one.claimed()
        store = [claim.key.vector_store_id]
        await one.ports.ingestion_store.add_chunks(claim, embedded(["some text"]), LONG)
        assert await one.ports.ingestion_store.index_keywords(claim, LONG)
        assert not await one.ports.ingestion_store.index_keywords(claim, LONG)

        assert (await one.ports.index.contents(one.tenant_id, store)).chunks == 0
        assert await one.ports.index.vector_search(one.tenant_id, store, a_vector("some text"), 9) == {}
        assert await one.ports.index.keyword_search(one.tenant_id, store, "text", 9) == {}

        await one.ports.ingestion_store.complete(claim)
        key = ChunkKey(claim.key.vector_store_id, claim.attachment, 0)
        assert (await one.ports.index.contents(one.tenant_id, store)).chunks == 1
        assert list(await one.ports.index.vector_search(one.tenant_id, store, a_vector("some text"), 9)) == [key]
        assert list(await one.ports.index.keyword_search(one.tenant_id, store, "text", 9)) == [key]

    async def test_completing_indexes_the_keywords_that_are_left(self, one: Tenant) -> None:
        claim = await one.claimed()
        store = [claim.key.vector_store_id]
        await one.ports.ingestion_store.add_chunks(claim, embedded(["harbour", "lighthouse"]), LONG)
        await one.ports.ingestion_store.complete(claim)

        found = await one.ports.index.keyword_search(one.tenant_id, store, "lighthouse", 9)

        assert list(found) == [ChunkKey(claim.key.vector_store_id, claim.attachment, 1)]

    async def test_the_chunks_and_the_end_of_a_file_are_stored_together(self, one: Tenant) -> None:
        claim = await one.claimed()
        store, key = [claim.key.vector_store_id], claim.key
        left_out = (FileWarning("pictures", "text in pictures is not read"),)
        await one.ports.ingestion_store.finish(claim, embedded(["harbour", "lighthouse"]), left_out)

        attachment = await one.ports.stores.attachment(one.tenant_id, key.vector_store_id, key.file_id)
        assert (attachment.state, attachment.chunks) == (AttachmentState.COMPLETED, 2)
        assert attachment.warnings == left_out
        for ordinal, word in enumerate(("harbour", "lighthouse")):
            found = await one.ports.index.keyword_search(one.tenant_id, store, word, 9)
            assert list(found) == [ChunkKey(key.vector_store_id, claim.attachment, ordinal)]
        assert await one.ports.ingestion_store.claim(key, LONG) is None

    async def test_files_that_end_at_once_harm_each_other_by_no_lost_claim_and_no_full_quota(self, one: Tenant) -> None:
        files = [await one.file() for _ in range(6)]
        store = await one.store(*(file.file_id for file in files))
        keys = [AttachmentKey(one.tenant_id, store.vector_store_id, file.file_id) for file in files]
        ingestion_store = one.ports.ingestion_store
        lost = keys[2]
        found = await asyncio.gather(*(ingestion_store.claim(key, NOW if key == lost else LONG) for key in keys))
        claims = [claim for claim in found if claim is not None]
        await one.claim(lost.vector_store_id, lost.file_id)

        quota = Quota(chunks=4)
        ends = (ingestion_store.finish(claim, embedded([f"word{n}"]), (), quota) for n, claim in enumerate(claims))
        outcomes = await asyncio.gather(*ends, return_exceptions=True)

        assert isinstance(outcomes[2], ClaimLost)
        assert [type(outcome) for outcome in outcomes].count(type(None)) == 4
        assert [type(outcome) for outcome in outcomes].count(StorageQuotaExceeded) == 1
        for number, (claim, outcome) in enumerate(zip(claims, outcomes, strict=True)):
            words = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], f"word{number}", 9)
            assert list(words) == ([ChunkKey(store.vector_store_id, claim.attachment, 0)] if outcome is None else []), (
                outcome
            )

    async def test_of_many_claims_on_one_file_at_once_one_succeeds(self, one: Tenant) -> None:
        claim = await one.claimed(NOW)

        claims = await asyncio.gather(*(one.ports.ingestion_store.claim(claim.key, LONG) for _ in range(5)))

        assert [again.epoch for again in claims if again is not None] == [claim.epoch + 1]

    async def test_a_completed_attachment_tells_what_is_left_out(self, one: Tenant) -> None:
        claim = await one.claimed()
        left_out = (
            FileWarning("pictures", "text in pictures is not read"),
            FileWarning("comments", "„not“ searchable"),
        )

        await one.ports.ingestion_store.complete(claim, left_out)

        key = claim.key
        attachment = await one.ports.stores.attachment(one.tenant_id, key.vector_store_id, key.file_id)
        assert attachment.warnings == left_out

    async def test_a_finished_attachment_is_not_claimed_again(self, one: Tenant) -> None:
        completed, failed = await one.claimed(NOW), await one.claimed(NOW)
        await one.ports.ingestion_store.complete(completed)
        await one.ports.ingestion_store.fail(failed, "empty_file", "no text")

        assert await one.ports.ingestion_store.claim(completed.key, LONG) is None
        assert await one.ports.ingestion_store.claim(failed.key, LONG) is None
        assert await one.ports.ingestion_store.claim(AttachmentKey(one.tenant_id, "vs_none", "file-none"), LONG) is None

    async def test_a_released_attachment_is_due_after_its_delay_and_counts_no_crash(self, one: Tenant) -> None:
        claim = await one.claimed()
        await one.ports.ingestion_store.release(claim, NOW, failed=True)
        again = await one.claim(claim.key.vector_store_id, claim.key.file_id)
        assert (again.crashes, again.retries) == (0, 1)

        await one.ports.ingestion_store.release(again, LONG, failed=False)
        assert await one.ports.ingestion_store.claim(claim.key, LONG) is None

    async def test_unclaimed_and_expired_attachments_are_overdue_and_tenants_take_turns(
        self, one: Tenant, other: Tenant
    ) -> None:
        files = [await one.file() for _ in range(3)]
        mine = await one.store(*(file.file_id for file in files))
        late = await other.claimed(NOW)
        held = await other.claimed(LONG)

        due = await one.ports.ingestion_store.overdue(1000)

        ours = [key for key in due if key.tenant_id in {one.tenant_id, other.tenant_id}]
        assert [key.tenant_id for key in ours[:2]].count(other.tenant_id) == 1
        assert late.key in ours
        assert held.key not in ours
        assert {key.file_id for key in ours if key.vector_store_id == mine.vector_store_id} == {
            f.file_id for f in files
        }
        assert len(await one.ports.ingestion_store.overdue(1)) == 1

    async def test_vectors_are_known_to_their_tenant_only(self, one: Tenant, other: Tenant) -> None:
        await one.indexed("equal text")
        prints = [fingerprint("fake", "equal text"), fingerprint("fake", "new text")]

        known = await one.ports.ingestion_store.known_vectors(one.tenant_id, prints)

        assert list(known) == prints[:1]
        assert cosine(known[prints[0]], a_vector("equal text")) == pytest.approx(1, abs=0.001)
        assert await one.ports.ingestion_store.known_vectors(other.tenant_id, prints) == {}
