"""The format of API keys."""

import zlib

import pytest
from gateway.auth.api_key import ALPHABET, InvalidApiKey, environment_of, mint_key, parse_key
from hypothesis import given
from hypothesis import strategies as st

_, TEXT = mint_key("dev")
ENVIRONMENTS = st.from_regex(r"[a-z][a-z0-9]{0,15}", fullmatch=True)


@given(ENVIRONMENTS)
def test_a_minted_key_is_read_back(env: str) -> None:
    minted, text = mint_key(env)

    assert parse_key(text.encode()) == minted
    assert minted.key_id.startswith("key_")
    assert len(minted.key_id) == 36
    assert environment_of(text) == env


@given(st.data())
def test_one_wrong_letter_is_detected(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TEXT) - 1))
    letter = data.draw(st.sampled_from([other for other in ALPHABET + "_" if other != TEXT[place]]))

    with pytest.raises(InvalidApiKey):
        parse_key((TEXT[:place] + letter + TEXT[place + 1 :]).encode())


@given(st.data())
def test_two_swapped_letters_are_detected(data: st.DataObject) -> None:
    places = [place for place in range(len(TEXT) - 1) if TEXT[place] != TEXT[place + 1]]
    place = data.draw(st.sampled_from(places))
    swapped = TEXT[:place] + TEXT[place + 1] + TEXT[place] + TEXT[place + 2 :]

    with pytest.raises(InvalidApiKey):
        parse_key(swapped.encode())


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_other_bytes_are_invalid(text: bytes) -> None:
    with pytest.raises(InvalidApiKey):
        parse_key(text)


@pytest.mark.parametrize("text", [b"", b"sk-123", b"argosy_dev_short_secret", b"argosy__" + b"0" * 61])
def test_other_keys_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidApiKey):
        parse_key(text)


@pytest.mark.parametrize("change", [lambda text: text + "\n", lambda text: " " + text, lambda text: text.upper()])
def test_a_key_with_surrounding_characters_is_refused(change: object) -> None:
    _, text = mint_key("dev")
    with pytest.raises(InvalidApiKey):
        parse_key(change(text).encode())  # type: ignore[operator]


def test_an_id_beyond_128_bits_is_refused_even_with_a_good_checksum() -> None:
    body = "argosy_dev_" + "z" * 22 + "_" + "0" * 32
    number, crc = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, value = divmod(number, 62)
        crc = ALPHABET[value] + crc

    with pytest.raises(InvalidApiKey):
        parse_key((body + crc).encode())


def test_a_secret_has_160_bits_and_no_two_are_alike() -> None:
    texts = {mint_key("dev")[1] for _ in range(100)}

    assert len(texts) == 100
    secret = next(iter(texts)).split("_")[3][:-6]
    assert 62 ** len(secret) > 2**160


@pytest.mark.parametrize("env", ["", "DEV", "de_v", "1dev", "x" * 17])
def test_an_environment_that_would_break_the_format_is_refused(env: str) -> None:
    with pytest.raises(ValueError, match="env must be"):
        mint_key(env)


def test_neither_text_nor_digest_shows_when_a_key_is_printed() -> None:
    minted, text = mint_key("dev")
    assert minted.sha256.hex() not in repr(minted)
    assert repr(minted.sha256) not in repr(minted)
    assert text not in repr(minted)
