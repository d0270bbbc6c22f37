"""The contract of a store of upstreams and credentials, empty at first, whose ring has `OLD_KEY`.

Subclasses give `store`, and `resealed`, which opens what it has with NEW_KEY first and OLD_KEY second.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from chassis.ids import new_id
from chassis.sealing import DataKey, KeyRing, SealUnreadable
from orchestrator.configuration.model import Edit
from orchestrator.upstreams.documents import document_to_upstream
from orchestrator.upstreams.model import (
    Credential,
    CredentialKey,
    CredentialNotFound,
    Upstream,
    UpstreamNotFound,
    UpstreamSnapshot,
)
from orchestrator.upstreams.ports import UpstreamStore
from values.credentials import SEALING_PURPOSE, credential_owner, data_key_owner

from services.orchestrator.tests.fake_configuration import CREATED_AT
from services.orchestrator.tests.fake_upstreams import NEW_KEY, OLD_KEY, OPENAI

EDIT = Edit("usr_1", "because")


def upstream(name: str = "openai", **changes: object) -> Upstream:
    return document_to_upstream(name, {**OPENAI, **changes}, ())


def credential(tenant_id: str = "*", name: str = "openai") -> Credential:
    key = CredentialKey(tenant_id, name, new_id("crd_"))
    return Credential(key, "the first", 2, enabled=True, created_at=CREATED_AT)


async def put(store: UpstreamStore, one: Upstream) -> None:
    await store.edit(one.name, EDIT, lambda _: one)


async def snapshot_of(store: UpstreamStore) -> UpstreamSnapshot:
    snapshot = await store.read(None)
    assert snapshot is not None
    return snapshot


def opened(snapshot: UpstreamSnapshot, *keys: str) -> dict[CredentialKey, str]:
    """Open what a worker with these keys can. Raises SealUnreadable."""
    ring, found = KeyRing(keys, SEALING_PURPOSE), {}
    for one in snapshot.credentials:
        tenant_id = one.key.tenant_id
        data_key = DataKey(ring.open(snapshot.data_keys[tenant_id], data_key_owner(tenant_id)))
        owner = credential_owner(tenant_id, one.key.upstream, one.key.credential_id)
        found[one.key] = data_key.open(one.sealed, owner).decode()
    return found


class UpstreamStoreContract:
    async def test_an_upstream_is_read_back_as_it_was_written(self, store: UpstreamStore) -> None:
        one = upstream(capabilities={"tools": True, "context_tokens": 128_000})

        written = await store.edit(one.name, EDIT, lambda _: one)

        assert written is not None
        assert written.upstream == one
        assert await store.find(one.name) == written
        assert await store.list() == [written]
        assert (await snapshot_of(store)).upstreams == (one,)

    async def test_a_known_version_is_not_read_again_and_a_change_makes_a_new_one(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        first = await snapshot_of(store)
        unchanged = await store.read(first.version)

        await put(store, upstream(max_connections=7))

        assert unchanged is None
        second = await store.read(first.version)
        assert second is not None
        assert second.version > first.version
        assert second.upstreams[0].document["max_connections"] == 7

    async def test_a_change_that_changes_nothing_makes_no_version(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        first = await snapshot_of(store)

        await put(store, upstream())

        assert await store.read(first.version) is None

    async def test_what_a_change_raises_leaves_the_upstream_as_it_is(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        before = await store.find("openai")

        def refuse(_: object) -> Upstream:
            raise LookupError("no")

        with pytest.raises(LookupError):
            await store.edit("openai", EDIT, refuse)

        assert await store.find("openai") == before

    async def test_credentials_are_sealed_for_their_row_and_listed_without_secrets(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        house, own = credential(), credential("ten_1")
        await store.add_credential(house, "sk-house-secret", EDIT)
        await store.add_credential(own, "sk-own-secret", EDIT)

        snapshot = await snapshot_of(store)

        assert opened(snapshot, OLD_KEY) == {house.key: "sk-house-secret", own.key: "sk-own-secret"}
        assert all(b"secret" not in one.sealed for one in snapshot.credentials)
        assert snapshot.data_keys["*"] != snapshot.data_keys["ten_1"]
        assert list(await store.credentials("openai", "")) == [house, own]
        assert list(await store.credentials("openai", "ten_1")) == [own]
        assert await store.credentials("other", "") == []

    async def test_a_row_that_was_moved_to_another_tenant_does_not_open(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        await store.add_credential(credential("ten_1"), "sk-of-tenant-1", EDIT)
        await store.add_credential(credential("ten_2"), "sk-of-tenant-2", EDIT)
        snapshot = await snapshot_of(store)
        first, second = snapshot.credentials

        swapped = replace(
            snapshot, credentials=(replace(first, sealed=second.sealed), replace(second, sealed=first.sealed))
        )

        with pytest.raises(SealUnreadable):
            opened(swapped, OLD_KEY)

    async def test_a_credential_of_an_unknown_upstream_is_refused(self, store: UpstreamStore) -> None:
        with pytest.raises(UpstreamNotFound):
            await store.add_credential(credential(), "sk-secret-1", EDIT)

    async def test_a_credential_that_is_off_is_not_given_to_workers(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        one = await store.add_credential(credential(), "sk-secret-1", EDIT)

        changed = await store.edit_credential(one.key, EDIT, lambda found: replace(found, enabled=False, weight=5))

        assert changed == replace(one, enabled=False, weight=5)
        assert (await snapshot_of(store)).credentials == ()
        assert list(await store.credentials("openai", "")) == [changed]

    async def test_a_deleted_credential_is_gone(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        one = await store.add_credential(credential(), "sk-secret-1", EDIT)
        before = await snapshot_of(store)

        await store.edit_credential(one.key, EDIT, lambda _: None)

        after = await store.read(before.version)
        assert after is not None
        assert after.credentials == ()
        with pytest.raises(CredentialNotFound):
            await store.edit_credential(one.key, EDIT, lambda found: found)

    async def test_an_upstream_that_is_deleted_takes_its_credentials_along(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        await put(store, upstream("other"))
        await store.add_credential(credential(), "sk-secret-1", EDIT)
        kept = await store.add_credential(credential(name="other"), "sk-secret-2", EDIT)

        assert await store.edit("openai", EDIT, lambda _: None) is None

        snapshot = await snapshot_of(store)
        assert [one.name for one in snapshot.upstreams] == ["other"]
        assert [one.key for one in snapshot.credentials] == [kept.key]

    async def test_what_was_shredded_cannot_be_opened_with_what_is_left(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        await store.add_credential(credential("ten_1"), "sk-of-tenant-1", EDIT)
        kept = await store.add_credential(credential(), "sk-of-the-house", EDIT)
        backup = await snapshot_of(store)

        assert await store.shred("ten_1", EDIT) == 1
        assert await store.shred("ten_1", EDIT) == 0

        after = await snapshot_of(store)
        assert opened(after, OLD_KEY) == {kept.key: "sk-of-the-house"}
        assert list(await store.credentials("openai", "ten_1")) == []
        # The rows of a backup, with the data keys of today.
        await store.add_credential(credential("ten_1"), "sk-brought-again", EDIT)
        today = await snapshot_of(store)
        with pytest.raises(SealUnreadable):
            opened(replace(today, credentials=backup.credentials), OLD_KEY)

    async def test_after_a_reseal_the_new_key_opens_everything_alone(
        self, store: UpstreamStore, resealed: UpstreamStore
    ) -> None:
        await put(store, upstream())
        one = await store.add_credential(credential(), "sk-secret-1", EDIT)
        two = await store.add_credential(credential("ten_1"), "sk-secret-2", EDIT)
        before = await snapshot_of(store)
        with pytest.raises(SealUnreadable):
            opened(before, NEW_KEY)

        assert await resealed.reseal(EDIT) == 2
        assert await resealed.reseal(EDIT) == 0

        after = await resealed.read(before.version)
        assert after is not None
        assert opened(after, NEW_KEY) == {one.key: "sk-secret-1", two.key: "sk-secret-2"}
        assert [row.sealed for row in after.credentials] == [row.sealed for row in before.credentials]

    async def test_a_reseal_without_the_old_key_changes_nothing(self, store: UpstreamStore) -> None:
        await put(store, upstream())
        await store.add_credential(credential(), "sk-secret-1", EDIT)
        before = await snapshot_of(store)

        assert await store.reseal(EDIT) == 0
        assert await store.read(before.version) is None
