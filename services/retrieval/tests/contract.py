"""What every implementation of the ports promises: run on the fakes in `unit`, on Postgres in `integration`."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from chassis.errors import DeadlineExceeded
from chassis.testing import a_principal
from retrieval.embeddings.model import fingerprint
from retrieval.files.model import DELETION_LEASE, FileMetadata, FileNotFound
from retrieval.ingestion.model import ClaimLost
from retrieval.search.model import ChunkKey
from retrieval.vector_stores.model import AttachmentKey, AttachmentState, FileCounts, VectorStoreNotFound

from services.retrieval.tests.tenants import LONG, NOW, Tenant, embedded
from services.retrieval.tests.texts import a_vector, bm25, cosine


class FilesContract:
    async def test_a_recorded_file_is_read_back(self, one: Tenant) -> None:
        file = await one.file("guide.pdf", "user_data")

        assert await one.ports.files.get(one.tenant_id, file.file_id) == file
        assert (file.filename, file.purpose, file.size_bytes) == ("guide.pdf", "user_data", 10)
        assert file.created_at.tzinfo is not None

    async def test_a_file_is_recorded_only_while_its_intent_lives(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-late", NOW)

        with pytest.raises(DeadlineExceeded):
            await one.ports.files.commit_upload(one.tenant_id, "file-late", FileMetadata("a.txt", "assistants"), 1)
        with pytest.raises(DeadlineExceeded):
            await one.ports.files.commit_upload(one.tenant_id, "file-never", FileMetadata("a.txt", "assistants"), 1)

    async def test_an_object_whose_record_never_came_is_removed_when_its_intent_expires(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-orphan", NOW)
        await one.ports.files.begin_upload(one.tenant_id, "file-young", LONG)

        removed = {deletion.object_key for deletion in await one.ports.deletions.claim(1000, LONG)}

        assert f"{one.tenant_id}/file-orphan" in removed
        assert f"{one.tenant_id}/file-young" not in removed

    async def test_a_file_is_not_recorded_while_its_object_is_being_removed(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-slow", NOW)
        claimed = await one.ports.deletions.claim(1000, DELETION_LEASE)
        assert "object-file-slow" in {deletion.deletion_id for deletion in claimed}

        with pytest.raises(DeadlineExceeded):
            await one.ports.files.commit_upload(one.tenant_id, "file-slow", FileMetadata("a.txt", "assistants"), 1)

    async def test_files_are_listed_newest_first_page_by_page_and_by_purpose(self, one: Tenant) -> None:
        files = [await one.file(purpose="batch" if n == 1 else "assistants") for n in range(4)]
        newest_first = files[::-1]

        first = await one.ports.files.list(one.tenant_id, limit=2, after="", purpose="")
        rest = await one.ports.files.list(one.tenant_id, limit=2, after=first.items[-1].file_id, purpose="")
        of_batch = await one.ports.files.list(one.tenant_id, limit=2, after="", purpose="batch")

        assert [*first.items, *rest.items] == newest_first
        assert (first.has_more, rest.has_more) == (True, False)
        assert of_batch.items == (files[1],)

    async def test_a_deleted_file_is_gone_with_its_attachments_and_its_object_follows(self, one: Tenant) -> None:
        store, file = await one.indexed("some text")

        await one.ports.files.delete(one.tenant_id, file.file_id)

        with pytest.raises(FileNotFound):
            await one.ports.files.get(one.tenant_id, file.file_id)
        with pytest.raises(FileNotFound):
            await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, file.file_id)
        assert await one.ports.index.count_chunks(one.tenant_id, [store.vector_store_id]) == 0
        assert await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "text", 9) == []
        mine = [r for r in await one.ports.deletions.claim(1000, LONG) if r.tenant_id == one.tenant_id]
        assert {bool(deletion.object_key) for deletion in mine} == {True, False}

    async def test_another_tenant_s_file_is_not_found(self, one: Tenant, other: Tenant) -> None:
        file = await other.file()

        with pytest.raises(FileNotFound):
            await one.ports.files.get(one.tenant_id, file.file_id)
        with pytest.raises(FileNotFound):
            await one.ports.files.delete(one.tenant_id, file.file_id)
        assert (await one.ports.files.list(one.tenant_id, limit=9, after="", purpose="")).items == ()


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

    async def test_a_store_is_made_with_all_its_files_or_not_at_all(self, one: Tenant) -> None:
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

    async def test_a_failed_attachment_says_why(self, one: Tenant) -> None:
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
        assert await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "text", 9) == found
        assert await one.ports.files.get(one.tenant_id, file.file_id) == file
        with pytest.raises(FileNotFound):
            await one.ports.stores.detach(one.tenant_id, store.vector_store_id, file.file_id)

    async def test_a_deleted_store_is_gone_and_its_files_stay(self, one: Tenant) -> None:
        store, file = await one.indexed("some text")

        await one.ports.stores.delete(one.tenant_id, store.vector_store_id)

        with pytest.raises(VectorStoreNotFound):
            await one.ports.stores.get(one.tenant_id, store.vector_store_id)
        with pytest.raises(VectorStoreNotFound):
            await one.ports.index.count_chunks(one.tenant_id, [store.vector_store_id])
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
            one.ports.index.count_chunks(one.tenant_id, [mine.vector_store_id, store_id]),
        ):
            with pytest.raises(VectorStoreNotFound):
                await unknown
        with pytest.raises(FileNotFound):
            await stores.attach(me, mine.vector_store_id, their_file.file_id)
        assert await one.ports.index.vector_search(one.tenant_id, [store_id], a_vector("secret"), 9) == []
        assert await one.ports.index.keyword_search(one.tenant_id, [store_id], "secret", 9) == []


class IngestionStoreContract:
    async def test_a_claim_says_whose_file_it_is_and_who_pays(self, one: Tenant) -> None:
        claim = await one.claimed()

        assert (claim.filename, claim.size_bytes, claim.chunks, claim.crashes) == ("a.txt", 10, 0, 0)
        assert claim.principal.tenant_id == one.tenant_id
        assert (claim.principal.project_id, claim.principal.key_id) == ("prj_test", "key_test")

    async def test_what_somebody_holds_nobody_else_gets_until_the_lease_ends(self, one: Tenant) -> None:
        held, expired = await one.claimed(LONG), await one.claimed(NOW)

        assert await one.ports.ingestion_store.claim(held.key, LONG) is None
        again = await one.ports.ingestion_store.claim(expired.key, LONG)
        assert again is not None
        assert (again.epoch, again.crashes) == (expired.epoch + 1, 1)

    async def test_who_lost_the_claim_can_write_nothing(self, one: Tenant) -> None:
        lost = await one.claimed(NOW)
        await one.claim(lost.key.vector_store_id, lost.key.file_id)
        ingestion_store = one.ports.ingestion_store

        for write in (
            ingestion_store.add_chunks(lost, embedded(["text"]), LONG),
            ingestion_store.extend(lost, LONG),
            ingestion_store.index_keywords(lost, LONG),
            ingestion_store.complete(lost),
            ingestion_store.fail(lost, "empty_file", ""),
            ingestion_store.release(lost, NOW, failed=True),
        ):
            with pytest.raises(ClaimLost):
                await write
        attachment = await one.ports.stores.attachment(one.tenant_id, lost.key.vector_store_id, lost.key.file_id)
        assert (attachment.state, attachment.chunks) == (AttachmentState.IN_PROGRESS, 0)

    @pytest.mark.parametrize("end", ["detach", "reattach", "delete_file", "delete_store"])
    async def test_who_indexes_what_is_taken_away_can_write_nothing(self, one: Tenant, end: str) -> None:
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

    async def test_the_cursor_moves_with_the_chunks_and_survives_the_holder(self, one: Tenant) -> None:
        claim = await one.claimed()
        await one.ports.ingestion_store.add_chunks(claim, embedded(["one", "two"]), NOW)

        again = await one.claim(claim.key.vector_store_id, claim.key.file_id)

        assert (again.chunks, again.crashes) == (2, 0)
        await one.ports.ingestion_store.add_chunks(again, embedded(["three"], first=2), LONG)
        attachment = await one.ports.stores.attachment(one.tenant_id, claim.key.vector_store_id, claim.key.file_id)
        assert attachment.chunks == 3

    async def test_nothing_is_found_before_it_is_complete(self, one: Tenant) -> None:
        claim = await one.claimed()
        store = [claim.key.vector_store_id]
        await one.ports.ingestion_store.add_chunks(claim, embedded(["some text"]), LONG)
        assert await one.ports.ingestion_store.index_keywords(claim, LONG)
        assert not await one.ports.ingestion_store.index_keywords(claim, LONG)

        assert await one.ports.index.count_chunks(one.tenant_id, store) == 0
        assert await one.ports.index.vector_search(one.tenant_id, store, a_vector("some text"), 9) == []
        assert await one.ports.index.keyword_search(one.tenant_id, store, "text", 9) == []

        await one.ports.ingestion_store.complete(claim)
        key = ChunkKey(claim.key.vector_store_id, claim.attachment, 0)
        assert await one.ports.index.count_chunks(one.tenant_id, store) == 1
        assert await one.ports.index.vector_search(one.tenant_id, store, a_vector("some text"), 9) == [key]
        assert await one.ports.index.keyword_search(one.tenant_id, store, "text", 9) == [key]

    async def test_a_finished_attachment_is_not_claimed_again(self, one: Tenant) -> None:
        completed, failed = await one.claimed(NOW), await one.claimed(NOW)
        await one.ports.ingestion_store.complete(completed)
        await one.ports.ingestion_store.fail(failed, "empty_file", "no text")

        assert await one.ports.ingestion_store.claim(completed.key, LONG) is None
        assert await one.ports.ingestion_store.claim(failed.key, LONG) is None
        assert await one.ports.ingestion_store.claim(AttachmentKey(one.tenant_id, "vs_none", "file-none"), LONG) is None

    async def test_a_released_file_is_due_after_its_wait_and_no_crash_is_counted(self, one: Tenant) -> None:
        claim = await one.claimed()
        await one.ports.ingestion_store.release(claim, NOW, failed=True)
        again = await one.claim(claim.key.vector_store_id, claim.key.file_id)
        assert (again.crashes, again.retries) == (0, 1)

        await one.ports.ingestion_store.release(again, LONG, failed=False)
        assert await one.ports.ingestion_store.claim(claim.key, LONG) is None

    async def test_what_nobody_claimed_or_lost_is_due_and_tenants_take_turns(self, one: Tenant, other: Tenant) -> None:
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

    async def test_a_tenant_s_own_vectors_are_known_again_and_no_other_s(self, one: Tenant, other: Tenant) -> None:
        await one.indexed("equal text")
        prints = [fingerprint("fake", "equal text"), fingerprint("fake", "new text")]

        known = await one.ports.ingestion_store.known_vectors(one.tenant_id, prints)

        assert list(known) == prints[:1]
        assert cosine(known[prints[0]], a_vector("equal text")) == pytest.approx(1, abs=0.001)
        assert await one.ports.ingestion_store.known_vectors(other.tenant_id, prints) == {}


class SearchIndexContract:
    async def test_the_nearest_come_first_over_all_stores_that_are_asked(self, one: Tenant) -> None:
        first, _ = await one.indexed("red apples", "green pears")
        second, _ = await one.indexed("red apples and pears")
        third, _ = await one.indexed("red apples")
        asked = [first.vector_store_id, second.vector_store_id]

        keys = await one.ports.index.vector_search(one.tenant_id, asked, a_vector("red apples"), 2)

        texts = await one.ports.index.chunk_texts(one.tenant_id, keys)
        assert [texts[key].text for key in keys] == ["red apples", "red apples and pears"]
        assert third.vector_store_id not in {key.vector_store_id for key in keys}

    async def test_texts_know_where_they_are_from(self, one: Tenant) -> None:
        store, file = await one.indexed("first page", "second page")
        [key] = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "second", 9)

        text = (await one.ports.index.chunk_texts(one.tenant_id, [key]))[key]

        assert (text.file_id, text.filename, text.page, text.text) == (file.file_id, "a.txt", 2, "second page")
        assert (
            await one.ports.index.chunk_texts(one.tenant_id, [ChunkKey(store.vector_store_id, key.attachment, 7)]) == {}
        )

    async def test_rare_words_weigh_more_and_long_passages_less(self, one: Tenant) -> None:
        store, _ = await one.indexed(
            "harbour harbour harbour",
            "harbour zephyr",
            "harbour lighthouse zephyr quay mooring bollard fender hawser",
            "harbour",
        )

        keys = await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "zephyr harbour", 9)

        assert [key.ordinal for key in keys] == [1, 2, 0, 3]

    async def test_bm25_ranks_as_the_formula_does(self, one: Tenant) -> None:
        vocabulary = ["zorb", "quix", "vemt", "plok", "drux", "fnar", "glib", "skob"]
        dice = random.Random(7)
        texts = [" ".join(dice.choices(vocabulary, k=dice.randint(2, 30))) for _ in range(60)]
        first, _ = await one.indexed(*texts[:40])
        second, _ = await one.indexed(*texts[40:])
        stores = [first.vector_store_id, second.vector_store_id]

        for query in ("zorb", "quix plok", "glib skob drux vemt", "unheard"):
            keys = await one.ports.index.keyword_search(one.tenant_id, stores, query, 100)
            everything = {ChunkKey("", n, 0): Counter(text.split()) for n, text in enumerate(texts)}
            expected = bm25(set(query.split()), everything)
            found = await one.ports.index.chunk_texts(one.tenant_id, keys)
            # Equal scores may come in any order, so compare the scores.
            by_text = {texts[key.attachment]: score for key, score in expected.items()}
            scores = [by_text[found[key].text] for key in keys]
            assert scores == pytest.approx(sorted(expected.values(), reverse=True))

    async def test_a_query_of_no_words_matches_nothing(self, one: Tenant) -> None:
        store, _ = await one.indexed("some text")

        assert await one.ports.index.keyword_search(one.tenant_id, [store.vector_store_id], "?!", 9) == []
