"""Secrets at rest open for their own row and key, and for no other."""

import pytest
from chassis.sealing import DataKey, KeyRing, NoSealingKey, SealUnreadable

OLD, NEW = "an old key of thirty-two characters", "a new key of thirty-two characters!"


def ring(*keys: str, purpose: bytes = b"tests") -> KeyRing:
    return KeyRing(keys, purpose)


def test_a_sealed_secret_opens_for_its_owner() -> None:
    assert ring(OLD).open(ring(OLD).seal(b"secret", "ten_1/row"), "ten_1/row") == b"secret"


def test_a_row_that_was_moved_does_not_open() -> None:
    with pytest.raises(SealUnreadable):
        ring(OLD).open(ring(OLD).seal(b"secret", "ten_1/row"), "ten_2/row")


def test_the_secret_is_not_in_what_is_stored() -> None:
    assert b"secret" not in ring(OLD).seal(b"secret", "row")


def test_after_a_rotation_old_rows_open_and_new_ones_use_the_new_key() -> None:
    old, both = ring(OLD), ring(NEW, OLD)
    sealed = old.seal(b"secret", "row")
    assert both.open(sealed, "row") == b"secret"
    assert not both.is_current(sealed)
    assert both.is_current(both.seal(b"secret", "row"))
    with pytest.raises(SealUnreadable):
        ring(NEW).open(sealed, "row")


def test_rings_of_other_purposes_do_not_open_it() -> None:
    with pytest.raises(SealUnreadable):
        ring(OLD, purpose=b"other").open(ring(OLD).seal(b"secret", "row"), "row")


@pytest.mark.parametrize("cut", [0, 1, 5, 10, 20])
def test_a_truncated_row_does_not_open(cut: int) -> None:
    with pytest.raises(SealUnreadable):
        ring(OLD).open(ring(OLD).seal(b"secret", "row")[:cut], "row")


def test_without_keys_nothing_is_sealed() -> None:
    with pytest.raises(NoSealingKey):
        ring().seal(b"secret", "row")


def test_what_a_data_key_sealed_opens_with_that_key_only() -> None:
    key = DataKey.generate()
    sealed = DataKey(key).seal(b"secret", "row")
    assert DataKey(key).open(sealed, "row") == b"secret"
    for other, owner in ((DataKey.generate(), "row"), (key, "another row")):
        with pytest.raises(SealUnreadable):
            DataKey(other).open(sealed, owner)
