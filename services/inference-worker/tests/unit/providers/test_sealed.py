"""Sealed credentials open for their own row only."""

from dataclasses import replace
from typing import Any

import pytest
from chassis.sealing import DataKey, KeyRing, SealUnreadable
from inference_worker.providers.credentials import Credential, SealedCredential
from inference_worker.providers.sealed import open_sealed
from values.credentials import SEALING_PURPOSE, credential_owner, data_key_owner

RING = KeyRing(["a key of at least thirty-two characters"], SEALING_PURPOSE)
KEYS = {tenant: DataKey.generate() for tenant in ("*", "ten_1", "ten_2")}


def sealed(tenant_id: str = "ten_1", secret: str = "sk-1") -> SealedCredential:
    owner = credential_owner(tenant_id, "openai", "crd_1")
    wrapped = RING.seal(KEYS[tenant_id], data_key_owner(tenant_id))
    return SealedCredential(
        "openai", "crd_1", tenant_id, DataKey(KEYS[tenant_id]).seal(secret.encode(), owner), wrapped, 3
    )


def test_a_credential_opens_for_its_row():
    assert open_sealed(RING, sealed()) == Credential("crd_1", "ten_1", "sk-1", 3)


@pytest.mark.parametrize("moved", [{"tenant_id": "ten_2"}, {"upstream": "other"}, {"credential_id": "crd_2"}])
def test_a_row_that_was_moved_does_not_open(moved: dict[str, Any]):
    with pytest.raises(SealUnreadable):
        open_sealed(RING, replace(sealed(), **moved))


@pytest.mark.parametrize("other", ["ten_2", "*"])
def test_a_row_does_not_open_with_the_key_of_another_tenant(other: str):
    row = replace(sealed(), tenant_id=other, wrapped_key=sealed(other).wrapped_key)

    with pytest.raises(SealUnreadable):
        open_sealed(RING, row)


def test_a_wrapped_key_that_was_moved_does_not_open():
    with pytest.raises(SealUnreadable):
        open_sealed(RING, replace(sealed(), wrapped_key=sealed("ten_2").wrapped_key))


@pytest.mark.parametrize("secret", ["two\r\nlines", "ключ", "sk-1 ", "sk\x00"])
def test_a_secret_that_cannot_be_sent_is_refused_without_being_quoted(secret: str):
    with pytest.raises(SealUnreadable) as refused:
        open_sealed(RING, sealed(secret=secret))

    assert secret not in str(refused.value)
