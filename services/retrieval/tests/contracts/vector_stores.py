"""Tests of VectorStores: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import pytest
from chassis.testing import a_principal
from retrieval.chunking.splitter import Chunking
from retrieval.files.model import FileNotFound
from retrieval.vector_stores.model import AttachmentState, FileCounts, VectorStoreNotFound
from values.attributes import AttributeValue

from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import a_vector


class VectorStoresContract:
    async def test_a_store_counts_its_files_by_state_and_its_bytes(self, one: Tenant) -> None:
        store, _ = await one.indexed("abc", "de")
        failed, waiting = await one.file(), await one.file()
        for file in (failed, waiting):
            await one.ports.stores.attach(a_principal(one.tenant_id), store.vector_store_id, file.file_id)
        claim = await one.claim(store.vector_store_id, failed.file_id)
        await one.ports.ingestion_store.fail(claim, "unreadable_file", "it is damaged")

        read = await one.ports.stores.get(one.tenant_id, store.vector_store_id)

        assert read.file_counts == FileCounts(in_progress=1, completed=1, failed=1)
        assert read.usage_bytes == 5 + 2 * 768
        assert (await one.ports.stores.list(one.tenant_id, limit=9, after="")).items == (read,)

    async def test_a_store_is_created_with_all_its_files_or_not_at_all(self, one: Tenant) -> None:
        file = await one.file()

        with pytest.raises(FileNotFound):
            await one.store(file.file_id, "file-unknown")
        assert (await one.ports.stores.list(one.tenant_id, limit=9, after="")).items == ()

        store = await one.store(file.file_id)
        assert store.file_counts == FileCounts(in_progress=1)

    async def test_stores_are_listed_newest_first_page_by_page(self, one: Tenant) -> None:
        stores = [await one.store() for _ in range(3)]

        first = await one.ports.stores.list(one.tenant_id, limit=2, after="")
        rest = await one.ports.stores.list(one.tenant_id, limit=2, after=first.items[-1].vector_store_id)

        assert [*first.items, *rest.items] == stores[::-1]
        assert (first.has_more, rest.has_more) == (True, False)

    async def test_attaching_again_changes_nothing_unless_it_had_failed(self, one: Tenant) -> None:
        claim = await one.claimed()
        key = claim.key
        before = await one.ports.stores.attachment(one.tenant_id, key.vector_store_id, key.file_id)

        assert await one.ports.stores.attach(a_principal(one.tenant_id), key.vector_store_id, key.file_id) == before
        await one.ports.ingestion_store.fail(claim, "insufficient_quota", "the budget is spent")
        again = await one.ports.stores.attach(a_principal(one.tenant_id), key.vector_store_id, key.file_id)

        assert (again.state, again.failure_reason) == (AttachmentState.IN_PROGRESS, "")
        assert (await one.claim(key.vector_store_id, key.file_id)).attachment > claim.attachment

    async def test_attributes_are_kept_as_they_were_given(self, one: Tenant) -> None:
        file = await one.file()
        store, me = await one.store(), a_principal(one.tenant_id)
        given: dict[str, AttributeValue] = {
            "author": "Ada \u00dc \U0001f600 ' \" \\ --",
            "': DROP TABLE chunks": "x",
            "year": 2024,
            "id": 2**63 - 1,
            "least": -(2**63),
            "huge": 1e300,
            "beyond 64 bits": 1e19,
            "small": 5e-324,
            "share": 0.1,
            "public": True,
            "empty": "",
        }

        attached = await one.ports.stores.attach(me, store.vector_store_id, file.file_id, attributes=given)

        read = await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, file.file_id)
        assert read.attributes == attached.attributes == given
        assert {key: type(value) for key, value in read.attributes.items() if isinstance(value, int)} == {
            "year": int,
            "id": int,
            "least": int,
            "public": bool,
        }

    async def test_attributes_change_when_some_are_given_and_the_index_stays(self, one: Tenant) -> None:
        store, file = await one.indexed("some text", attributes={"year": 2023})
        me, stores, key = a_principal(one.tenant_id), one.ports.stores, (store.vector_store_id, file.file_id)

        assert (await stores.attach(me, *key)).attributes == {"year": 2023}
        again = await stores.attach(me, *key, attributes={"year": 2024})
        assert (again.attributes, again.state) == ({"year": 2024}, AttachmentState.COMPLETED)
        updated = await stores.update_attachment(one.tenant_id, *key, {"author": "Ada"})
        assert (updated.attributes, updated.state) == ({"author": "Ada"}, AttachmentState.COMPLETED)
        assert (await stores.attach(me, *key, attributes={})).attributes == {}
        with pytest.raises(FileNotFound):
            await stores.update_attachment(one.tenant_id, store.vector_store_id, "file-unknown", {})

    async def test_a_failed_file_that_is_attached_again_keeps_its_attributes(self, one: Tenant) -> None:
        claim = await one.claimed()
        key = (claim.key.vector_store_id, claim.key.file_id)
        await one.ports.stores.update_attachment(one.tenant_id, *key, {"year": 2024})
        await one.ports.ingestion_store.fail(claim, "insufficient_quota", "the budget is spent")

        again = await one.ports.stores.attach(a_principal(one.tenant_id), *key)

        assert (again.state, again.attributes) == (AttachmentState.IN_PROGRESS, {"year": 2024})

    async def test_a_file_is_split_as_it_was_said_when_it_was_attached(self, one: Tenant) -> None:
        files, store = [await one.file() for _ in range(2)], await one.store()
        me, stores, large = a_principal(one.tenant_id), one.ports.stores, Chunking(800, 400)

        own = await stores.attach(me, store.vector_store_id, files[0].file_id)
        attached = await stores.attach(me, store.vector_store_id, files[1].file_id, chunking=large)
        again = await stores.attach(me, store.vector_store_id, files[1].file_id, chunking=Chunking(100, 0))

        assert [item.chunking for item in (own, attached, again)] == [Chunking(), large, large]
        claim = await one.claim(store.vector_store_id, files[1].file_id)
        assert claim.chunking == large
        assert (await one.claim(store.vector_store_id, files[0].file_id)).chunking == Chunking()
        await one.ports.ingestion_store.fail(claim, "insufficient_quota", "the budget is spent")
        assert (await stores.attach(me, store.vector_store_id, files[1].file_id)).chunking == large

    async def test_all_files_of_a_new_store_are_split_alike(self, one: Tenant) -> None:
        file = await one.file()

        store = await one.ports.stores.create(
            a_principal(one.tenant_id), "", [file.file_id], chunking=Chunking(100, 50)
        )

        attached = await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, file.file_id)
        assert attached.chunking == Chunking(100, 50)

    async def test_attachments_are_listed_newest_first_page_by_page_and_by_state(self, one: Tenant) -> None:
        files = [await one.file() for _ in range(3)]
        store = await one.store(*(file.file_id for file in files))
        claim = await one.claim(store.vector_store_id, files[1].file_id)
        await one.ports.ingestion_store.fail(claim, "empty_file", "no text")

        async def ids(limit: int, after: str = "", state: AttachmentState | None = None) -> tuple[list[str], bool]:
            page = await one.ports.stores.attachments(
                one.tenant_id, store.vector_store_id, limit=limit, after=after, state=state
            )
            return [attachment.file_id for attachment in page.items], page.has_more

        newest_first = [file.file_id for file in files[::-1]]
        assert await ids(2) == (newest_first[:2], True)
        assert await ids(2, newest_first[1]) == (newest_first[2:], False)
        assert await ids(2, state=AttachmentState.FAILED) == ([files[1].file_id], False)
        with pytest.raises(FileNotFound):
            await ids(2, "file-unknown")

    async def test_a_failed_attachment_has_a_reason_and_a_message(self, one: Tenant) -> None:
        claim = await one.claimed()
        await one.ports.ingestion_store.fail(claim, "encrypted_file", "the file needs a password")

        attachment = await one.ports.stores.attachment(one.tenant_id, claim.key.vector_store_id, claim.key.file_id)

        assert attachment.state is AttachmentState.FAILED
        assert (attachment.failure_reason, attachment.failure_message) == (
            "encrypted_file",
            "the file needs a password",
        )

    async def test_a_detached_file_is_no_longer_found_and_stays_a_file(self, one: Tenant) -> None:
        store, file = await one.indexed("some text")
        _, stays = await one.indexed("other text", store=store)

        await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)

        found = await one.ports.index.vector_search(one.tenant_id, [store.vector_store_id], a_vector("some text"), 9)
        texts = await one.ports.index.chunk_texts(one.tenant_id, found)
        assert [text.file_id for text in texts.values()] == [stays.file_id]
        assert list(await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "text", 9)) == list(
            found
        )
        assert await one.ports.files.get(one.tenant_id, file.file_id) == file
        with pytest.raises(FileNotFound):
            await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)

    async def test_deleting_a_store_keeps_its_files(self, one: Tenant) -> None:
        store, file = await one.indexed("some text")

        await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

        with pytest.raises(VectorStoreNotFound):
            await one.ports.stores.get(one.tenant_id, store.vector_store_id)
        with pytest.raises(VectorStoreNotFound):
            await one.ports.index.contents(one.tenant_id, [store.vector_store_id])
        assert await one.ports.files.get(one.tenant_id, file.file_id) == file

    async def test_another_tenant_s_store_or_file_is_not_found(self, one: Tenant, other: Tenant) -> None:
        theirs, their_file = await other.indexed("secret text")
        mine, my_file = await one.indexed("my text")
        me, stores = a_principal(one.tenant_id), one.ports.stores
        store_id = theirs.vector_store_id

        for unknown in (
            stores.get(one.tenant_id, store_id),
            stores.delete(one.tenant_id, store_id),
            stores.attach(me, store_id, my_file.file_id),
            stores.attachment(one.tenant_id, store_id, their_file.file_id),
            stores.attachments(one.tenant_id, store_id, limit=9, after="", state=None),
            stores.detach(one.tenant_id, store_id, their_file.file_id),
            stores.update_attachment(one.tenant_id, store_id, their_file.file_id, {"a": 1}),
            one.ports.index.contents(one.tenant_id, [mine.vector_store_id, store_id]),
        ):
            with pytest.raises(VectorStoreNotFound):
                await unknown
        with pytest.raises(FileNotFound):
            await stores.attach(me, mine.vector_store_id, their_file.file_id)
        assert await one.ports.index.vector_search(one.tenant_id, [store_id], a_vector("secret"), 9) == {}
        assert await one.ports.index.keyword_search(one.tenant_id, [store_id], "secret", 9) == {}
