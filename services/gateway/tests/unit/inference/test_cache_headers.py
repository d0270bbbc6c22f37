from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from gateway.inference.cache_headers import cache_response_headers, read_cache_headers
from gateway.inference.model import CacheControl, Started
from values.usage import CacheOutcome


def test_headers_say_how_to_use_the_cache() -> None:
    assert read_cache_headers([(b"argosy-cache", b" On "), (b"argosy-cache-max-age", b"60")]) == CacheControl(
        "on", timedelta(seconds=60)
    )
    assert read_cache_headers([(b"argosy-lane", b"batch"), (b"cache-control", b"no-store")]) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("argosy-cache", b"yes"),
        ("argosy-cache-max-age", b"-1"),
        ("argosy-cache-max-age", b"1.5"),
        ("argosy-cache", b""),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_by_name(name: str, value: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_cache_headers([(name.encode(), value)])
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("outcome", "headers"),
    [
        (None, ()),
        (CacheOutcome.MISS, ((b"argosy-cache", b"miss"),)),
        (CacheOutcome.HIT, ((b"argosy-cache", b"hit"), (b"age", b"7"))),
        (CacheOutcome.STALE, ((b"argosy-cache", b"stale"), (b"age", b"7"))),
    ],
)
def test_an_answer_says_what_the_cache_did(outcome: CacheOutcome | None, headers: object) -> None:
    assert cache_response_headers(Started((), False, (), outcome, 7)) == headers
