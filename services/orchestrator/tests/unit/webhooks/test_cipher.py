"""Secrets at rest."""

from __future__ import annotations

import pytest
from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.model import WebhooksNotConfigured

OLD, NEW = "old" * 16, "new" * 16


def test_a_secret_is_read_back_and_not_stored_in_clear() -> None:
    cipher = AesSecretCipher([NEW])
    sealed = cipher.seal("whsec_abc", "ten_1/whe_1")

    assert cipher.open(sealed, "ten_1/whe_1") == "whsec_abc"
    assert b"whsec" not in sealed
    assert sealed != cipher.seal("whsec_abc", "ten_1/whe_1")


def test_a_secret_of_one_endpoint_is_not_read_as_that_of_another() -> None:
    cipher = AesSecretCipher([NEW])
    sealed = cipher.seal("whsec_abc", "ten_1/whe_1")

    with pytest.raises(WebhooksNotConfigured):
        cipher.open(sealed, "ten_2/whe_1")


def test_keys_are_rotated() -> None:
    sealed = AesSecretCipher([OLD]).seal("whsec_abc", "ten_1/whe_1")

    assert AesSecretCipher([NEW, OLD]).open(sealed, "ten_1/whe_1") == "whsec_abc"
    with pytest.raises(WebhooksNotConfigured):
        AesSecretCipher([NEW]).open(sealed, "ten_1/whe_1")


def test_a_secret_that_an_earlier_release_has_stored_is_read() -> None:
    """The bytes were written before sealing moved into the chassis; they stand in databases."""
    stored = bytes.fromhex("01610eeafd5aafe5d4574eff098223994581e884b7e9e3f20bcd691a3a7f3183461cd84f1267cf8b7574")

    assert AesSecretCipher([NEW, OLD]).open(stored, "ten_1/whe_1") == "whsec_abc"
    assert AesSecretCipher([OLD]).open(stored, "ten_1/whe_1") == "whsec_abc"


def test_without_a_key_nothing_is_stored() -> None:
    with pytest.raises(WebhooksNotConfigured):
        AesSecretCipher([]).seal("whsec_abc", "ten_1/whe_1")
