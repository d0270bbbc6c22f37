"""What operators do to upstreams and credentials, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import upstreams_pb2 as pb
from chassis.errors import InvalidRequest, PermissionDenied
from chassis.tenancy import Principal, as_caller
from chassis.testing import FakeClock, a_caller
from orchestrator.configuration.model import Edit
from orchestrator.upstreams.cache import UpstreamCache
from orchestrator.upstreams.grpc import UpstreamServicer, UpstreamWatchServicer
from orchestrator.upstreams.manage import CredentialChange, ManageUpstreams
from orchestrator.upstreams.model import (
    CredentialKey,
    CredentialNotFound,
    CredentialsNotConfigured,
    UpstreamInUse,
    UpstreamNotFound,
    UpstreamVersionConflict,
)

from services.orchestrator.tests.fake_upstreams import OLD_KEY, OPENAI, FakeUpstreamStore
from services.orchestrator.tests.upstream_store_contract import EDIT, opened, snapshot_of

SECRET = "sk-canary-d41d8cd98f00b204"
ADMIN = Principal("platform", user_id="usr_1", roles=frozenset({"platform_admin"}))


def managed(store: FakeUpstreamStore) -> ManageUpstreams:
    return ManageUpstreams(store, UpstreamCache(store), FakeClock())


async def test_a_change_is_in_force_here_before_the_call_returns() -> None:
    manage = managed(FakeUpstreamStore())

    stored = await manage.put("openai", OPENAI, EDIT)

    assert stored.version == 1
    assert manage.cache.names() == {"openai"}
    await manage.delete("openai", EDIT)
    assert manage.cache.names() == set()


async def test_a_change_of_another_version_is_refused() -> None:
    manage = managed(FakeUpstreamStore())
    await manage.put("openai", OPENAI, EDIT, expected_version=0)

    with pytest.raises(UpstreamVersionConflict):
        await manage.put("openai", OPENAI, EDIT, expected_version=0)
    assert (await manage.put("openai", {**OPENAI, "max_connections": 3}, EDIT, expected_version=1)).version == 2


@pytest.mark.parametrize("reason", ["", "  "])
async def test_a_change_needs_a_reason(reason: str) -> None:
    manage, edit = managed(FakeUpstreamStore()), Edit("usr_1", reason)
    key = CredentialKey("*", "openai", "crd_1")

    for call in (
        manage.put("openai", OPENAI, edit),
        manage.delete("openai", edit),
        manage.add_credential("openai", "*", SECRET, edit),
        manage.change_credential(key, CredentialChange(enabled=False), edit),
        manage.delete_credential(key, edit),
        manage.shred("*", edit),
    ):
        with pytest.raises(InvalidRequest, match="reason"):
            await call


async def test_what_does_not_exist_is_named() -> None:
    manage, key = managed(FakeUpstreamStore()), CredentialKey("*", "openai", "crd_1")

    for error, call in (
        (UpstreamNotFound, manage.get("openai")),
        (UpstreamNotFound, manage.delete("openai", EDIT)),
        (UpstreamNotFound, manage.credentials("openai", "")),
        (UpstreamNotFound, manage.add_credential("openai", "*", SECRET, EDIT)),
        (CredentialNotFound, manage.change_credential(key, CredentialChange(enabled=False), EDIT)),
        (CredentialNotFound, manage.delete_credential(key, EDIT)),
    ):
        with pytest.raises(error):
            await call


async def test_an_upstream_that_a_route_needs_is_not_deleted() -> None:
    store = FakeUpstreamStore()
    await managed(store).put("openai", OPENAI, EDIT)
    store.used["openai"] = ["gpt"]

    with pytest.raises(UpstreamInUse):
        await managed(store).delete("openai", EDIT)


@pytest.mark.parametrize(
    "secret", ["", "short", "a" * 5_000, "sk-with a space", "sk-with\r\nnewlines", "sk-ключ-ключ", " sk-secret-1"]
)
async def test_a_secret_that_could_not_be_sent_is_refused_without_being_quoted(secret: str) -> None:
    manage = managed(FakeUpstreamStore())
    await manage.put("openai", OPENAI, EDIT)

    with pytest.raises(InvalidRequest) as refused:
        await manage.add_credential("openai", "*", secret, EDIT)

    assert refused.value.param == "secret"
    assert not secret or secret not in refused.value.message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"weight": 0}, "weight"),
        ({"weight": 1_001}, "weight"),
        ({"label": "a\nb"}, "label"),
        ({"label": "a" * 101}, "label"),
    ],
)
async def test_bad_settings_of_a_credential_are_named(changes: dict[str, Any], param: str) -> None:
    manage = managed(FakeUpstreamStore())
    await manage.put("openai", OPENAI, EDIT)
    added = await manage.add_credential("openai", "*", SECRET, EDIT)

    with pytest.raises(InvalidRequest) as refused:
        await manage.add_credential("openai", "*", SECRET, EDIT, **changes)
    assert refused.value.param == param
    with pytest.raises(InvalidRequest):
        await manage.change_credential(added.key, CredentialChange(**changes), EDIT)


@pytest.mark.parametrize("tenant_id", ["", "tenant", "ten_\n"])
async def test_a_credential_belongs_to_a_tenant_or_to_all(tenant_id: str) -> None:
    manage = managed(FakeUpstreamStore())
    await manage.put("openai", OPENAI, EDIT)

    with pytest.raises(InvalidRequest) as refused:
        await manage.add_credential("openai", tenant_id, SECRET, EDIT)

    assert refused.value.param == "tenant_id"


async def test_without_a_key_no_credential_is_kept() -> None:
    store = FakeUpstreamStore(keys=())
    await managed(store).put("openai", OPENAI, EDIT)

    with pytest.raises(CredentialsNotConfigured):
        await managed(store).add_credential("openai", "*", SECRET, EDIT)

    assert not store.sealed


async def describe(name: str) -> inference_pb2.UpstreamHealth:
    """One worker, which has the upstream `openai`."""
    if name != "openai":
        raise UpstreamNotFound(f"No worker has an upstream {name!r}.", param="name")
    return inference_pb2.UpstreamHealth(left_out=7)


async def test_administrators_read_the_health_of_an_upstream_that_workers_have() -> None:
    servicer = UpstreamServicer(managed(FakeUpstreamStore()), describe)
    request = pb.GetUpstreamHealthRequest(name="openai")

    with as_caller(a_caller(ADMIN)):
        response = await servicer.GetUpstreamHealth(request, None)
        with pytest.raises(UpstreamNotFound):
            await servicer.GetUpstreamHealth(pb.GetUpstreamHealthRequest(name="other"), None)
    member = Principal("ten_1", roles=frozenset({"member"}))
    with as_caller(a_caller(member)), pytest.raises(PermissionDenied):
        await servicer.GetUpstreamHealth(request, None)

    assert response.health.left_out == 7


async def test_only_administrators_change_upstreams_and_only_services_watch_them() -> None:
    store = FakeUpstreamStore()
    servicer = UpstreamServicer(managed(store), describe)
    watch = UpstreamWatchServicer(UpstreamCache(store))
    member = Principal("ten_1", roles=frozenset({"member"}))

    with as_caller(a_caller(member)):
        with pytest.raises(PermissionDenied):
            await servicer.ListUpstreams(pb.ListUpstreamsRequest(), None)
        with pytest.raises(PermissionDenied):
            await servicer.AddCredential(pb.AddCredentialRequest(secret=SECRET, reason="a"), None)
        with pytest.raises(PermissionDenied):
            await watch.WatchUpstreams(pb.WatchUpstreamsRequest(), None)
    with as_caller(a_caller(ADMIN)), pytest.raises(PermissionDenied):
        await watch.WatchUpstreams(pb.WatchUpstreamsRequest(), None)


async def test_by_the_api_a_secret_goes_in_and_does_not_come_out() -> None:
    store = FakeUpstreamStore()
    servicer = UpstreamServicer(managed(store), describe)
    with as_caller(a_caller(ADMIN)):
        put = pb.PutUpstreamRequest(name="openai", document=b'{"kind":"openai","base_url":"http://x/v1"}', reason="a")
        await servicer.PutUpstream(put, None)
        request = pb.AddCredentialRequest(upstream="openai", tenant_id="*", secret=SECRET, reason="a", label="first")
        added = await servicer.AddCredential(request, None)
        listed = await servicer.ListCredentials(pb.ListCredentialsRequest(upstream="openai"), None)
        found = await servicer.GetUpstream(pb.GetUpstreamRequest(name="openai"), None)

    assert list(listed.credentials) == [added.credential]
    assert (added.credential.weight, added.credential.enabled, added.credential.label) == (1, True, "first")
    for message in (added, listed, found):
        assert SECRET.encode() not in message.SerializeToString()
    assert SECRET not in repr(store.log.changes)
    assert list(opened(await snapshot_of(store), OLD_KEY).values()) == [SECRET]


async def test_a_document_that_is_not_json_is_refused_without_being_quoted() -> None:
    servicer = UpstreamServicer(managed(FakeUpstreamStore()), describe)

    with as_caller(a_caller(ADMIN)), pytest.raises(InvalidRequest) as refused:
        await servicer.PutUpstream(pb.PutUpstreamRequest(name="a", document=SECRET.encode(), reason="a"), None)

    assert SECRET not in refused.value.message
