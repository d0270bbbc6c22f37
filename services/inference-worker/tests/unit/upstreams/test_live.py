"""The upstreams of a process follow the snapshots, and running calls are left alone."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from chassis.sealing import DataKey, KeyRing
from chassis.testing import FakeClock
from inference_worker.providers.credentials import SealedCredential
from inference_worker.providers.ports import Upstream
from inference_worker.token_counting.model import NullTokenCounter
from inference_worker.upstreams.live import LiveUpstreams
from inference_worker.upstreams.model import UpstreamDocument, UpstreamSnapshot
from inference_worker.upstreams.open import Opener
from values.credentials import SEALING_PURPOSE, credential_owner, data_key_owner

RING = KeyRing(["a key of at least thirty-two characters"], SEALING_PURPOSE)
DATA_KEYS = {tenant: DataKey.generate() for tenant in ("*", "ten_1", "ten_2")}
CONFIGURED = Upstream(NullTokenCounter())


class FakeOpener:
    """Opens documents, unless they say that they cannot be."""

    def __init__(self) -> None:
        self.opened: list[UpstreamDocument] = []
        self.retired: list[str] = []
        self.closed: list[str] = []

    async def __call__(self, declared: UpstreamDocument, stack: AsyncExitStack) -> Upstream | None:
        if declared.document.get("broken"):
            return None
        self.opened.append(declared)
        stack.callback(self.closed.append, declared.name)
        return Upstream(NullTokenCounter(), retire=lambda: self.retired.append(declared.name))


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener()


@pytest.fixture
def live(opener: FakeOpener) -> LiveUpstreams:
    unseal = Opener(RING, FakeClock(), allow_link_local=False).unseal
    return LiveUpstreams({"static": CONFIGURED}, opener, unseal)


def document(name: str, **fields: Any) -> UpstreamDocument:
    return UpstreamDocument(name, {"kind": "openai", "base_url": f"http://{name}/v1", **fields})


def sealed(upstream: str, credential_id: str, tenant_id: str = "*", weight: int = 1) -> SealedCredential:
    """A credential whose secret is its id."""
    owner = credential_owner(tenant_id, upstream, credential_id)
    secret = DataKey(DATA_KEYS[tenant_id]).seal(f"sk-{credential_id}".encode(), owner)
    wrapped = RING.seal(DATA_KEYS[tenant_id], data_key_owner(tenant_id))
    return SealedCredential(upstream, credential_id, tenant_id, secret, wrapped, weight)


def snapshot(version: int, *upstreams: UpstreamDocument, credentials: Any = ()) -> UpstreamSnapshot:
    return UpstreamSnapshot(version, upstreams, tuple(credentials))


def secrets(live: LiveUpstreams, name: str, tenant_id: str) -> list[str]:
    return [one.secret for one in live[name].credentials.of(tenant_id)]


async def test_before_the_first_snapshot_there_are_those_of_the_settings(live: LiveUpstreams) -> None:
    assert dict(live) == {"static": CONFIGURED}
    assert (live.version, live.get("other"), "static" in live) == (None, None, True)


async def test_a_declared_upstream_is_found_and_needs_a_credential(live: LiveUpstreams) -> None:
    await live.apply(snapshot(1, document("a"), document("b", requires_credential=False)))

    assert set(live) == {"static", "a", "b"}
    assert (live["a"].requires_credential, live["b"].requires_credential) == (True, False)
    assert live.version == 1


async def test_only_what_changed_is_opened_again(live: LiveUpstreams, opener: FakeOpener) -> None:
    await live.apply(snapshot(1, document("a"), document("b")))
    kept = live["a"]

    await live.apply(snapshot(2, document("a"), document("b", max_connections=3)))

    assert live["a"] is kept
    assert [one.name for one in opener.opened] == ["a", "b", "b"]
    assert opener.retired == ["b"]
    assert opener.closed == []


async def test_the_last_one_that_is_deleted_is_gone_and_those_of_the_settings_stay(live: LiveUpstreams) -> None:
    await live.apply(snapshot(1, document("a"), document("b")))
    await live.apply(snapshot(2, document("b")))
    await live.apply(snapshot(3))

    assert dict(live) == {"static": CONFIGURED}


async def test_what_is_gone_is_retired_and_closed_at_the_end(live: LiveUpstreams, opener: FakeOpener) -> None:
    async with live:
        await live.apply(snapshot(1, document("a")))
        await live.apply(snapshot(2))
        assert (live.get("a"), opener.retired, opener.closed) == (None, ["a"], [])

    assert opener.closed == ["a"]


async def test_a_declared_upstream_stands_in_for_one_of_the_settings_until_it_is_removed(live: LiveUpstreams) -> None:
    await live.apply(snapshot(1, document("static")))
    assert live["static"] is not CONFIGURED

    await live.apply(snapshot(2))
    assert live["static"] is CONFIGURED


async def test_one_that_cannot_be_opened_leaves_the_others_alone(live: LiveUpstreams) -> None:
    await live.apply(snapshot(1, document("a", broken=True), document("b")))

    assert set(live) == {"static", "b"}
    await live.apply(snapshot(2, document("a"), document("b")))
    assert set(live) == {"static", "a", "b"}


async def test_a_tenant_with_credentials_of_its_own_uses_no_other(live: LiveUpstreams) -> None:
    rows = [sealed("a", "house-1"), sealed("a", "house-2"), sealed("a", "own", "ten_1"), sealed("b", "other")]
    await live.apply(snapshot(1, document("a"), document("b"), credentials=rows))

    assert secrets(live, "a", "ten_1") == ["sk-own"]
    assert secrets(live, "a", "ten_2") == ["sk-house-1", "sk-house-2"]
    assert secrets(live, "b", "ten_1") == ["sk-other"]


async def test_a_revoked_credential_is_gone_without_opening_the_upstream_again(
    live: LiveUpstreams, opener: FakeOpener
) -> None:
    await live.apply(snapshot(1, document("a"), credentials=[sealed("a", "one"), sealed("a", "two")]))
    upstream = live["a"]

    await live.apply(snapshot(2, document("a"), credentials=[sealed("a", "two")]))

    assert live["a"] is upstream
    assert secrets(live, "a", "ten_1") == ["sk-two"]
    await live.apply(snapshot(3, document("a")))
    assert secrets(live, "a", "ten_1") == []
    assert len(opener.opened) == 1


async def test_rows_that_were_swapped_between_tenants_open_for_neither_and_are_counted(live: LiveUpstreams) -> None:
    first, second = sealed("a", "one", "ten_1"), sealed("a", "two", "ten_2")
    swapped = [replace(first, sealed=second.sealed), replace(second, sealed=first.sealed)]

    await live.apply(snapshot(1, document("a"), credentials=[*swapped, sealed("a", "house")]))

    # Without a credential of their own they use the house's, as if they had brought none.
    assert secrets(live, "a", "ten_1") == secrets(live, "a", "ten_2") == ["sk-house"]
    assert live.unreadable == 2

    await live.apply(snapshot(2, document("a"), credentials=[first, second]))
    assert secrets(live, "a", "ten_1") == ["sk-one"]
    assert live.unreadable == 0


async def test_a_secret_stands_in_no_log_line_and_no_text_of_an_object(
    live: LiveUpstreams, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = replace(sealed("a", "two"), sealed=b"\x01" + b"0" * 40)
    await live.apply(snapshot(1, document("a"), credentials=[sealed("a", "one"), unreadable]))

    printed = capsys.readouterr()
    texts = (caplog.text, printed.out, printed.err, repr(dict(live)), repr(live["a"].credentials.of("ten_1")))
    assert all("sk-one" not in text for text in texts)


async def test_while_the_keys_are_rotated_no_call_is_without_its_credential() -> None:
    """Old key, both, the new one first with the data keys wrapped anew, and the new one alone."""
    old, new = "a key of at least thirty-two characters", "another key of thirty-two characters"
    before, after = KeyRing([old], SEALING_PURPOSE), KeyRing([new, old], SEALING_PURPOSE)
    row = sealed("a", "one")
    wrapped = after.seal(before.open(row.wrapped_key, data_key_owner("*")), data_key_owner("*"))
    rewrapped = replace(row, wrapped_key=wrapped)
    seen: list[list[str]] = []
    for keys, rows in (([old], [row]), ([old, new], [row, rewrapped]), ([new], [rewrapped])):
        # Each set of keys is a restart of the worker, which reads the snapshot before it takes calls.
        opener = Opener(KeyRing(keys, SEALING_PURPOSE), FakeClock(), allow_link_local=False)
        live = LiveUpstreams({}, FakeOpener(), opener.unseal)
        await live.apply(snapshot(1, document("a"), credentials=rows[:1]))
        for version in range(2, 50):
            applying = asyncio.create_task(
                live.apply(snapshot(version, document("a"), credentials=[rows[version % len(rows)]]))
            )
            while not applying.done():
                seen.append(secrets(live, "a", "ten_1"))
                await asyncio.sleep(0)

    assert len(seen) >= 100
    assert all(one == ["sk-one"] for one in seen)
