"""The header `Prefer` (RFC 7240)."""

import pytest
from gateway.jobs.model import preferred_wait_seconds, prefers_async


@pytest.mark.parametrize(
    "header",
    [
        "respond-async",
        "Respond-Async",
        "respond-async, wait=10",
        "wait=10, respond-async",
        "wait=10,respond-async;x=y",
        ' return=minimal ; foo="a, b" , respond-async ',
        "respond-async=",
        'respond-async=""',
        'respond-async ; note="wait, respond"',
        ",,respond-async",
    ],
)
def test_the_preference_is_found_in_any_form(header: str) -> None:
    assert prefers_async(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "wait=10",
        "respond",
        "respond-asynchronously",
        "respond-async=no",
        'respond-async="false"',
        'note="respond-async"',
        'note="a, respond-async"',
        'note="a \\", respond-async"',
        "return=minimal; respond-async",
        "\x00",
        '"',
    ],
)
def test_what_only_looks_like_it_is_not_the_preference(header: str) -> None:
    assert not prefers_async(header)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mark", ['"', '"\\', '"a'])
def test_a_header_of_quotation_marks_without_an_end_is_read_in_time_that_grows_with_its_length(mark: str) -> None:
    # By the square of its length it would take many minutes.
    assert not prefers_async(mark * 200_000)
    assert prefers_async("respond-async, a=" + mark * 200_000)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("respond-async, wait=10", 10),
        ("WAIT = 7 ;x=y, respond-async", 7),
        ("wait=3, wait=9", 3),
        ("respond-async", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ('foo="wait=5"', 0),
        ("wait=9999999999", 0),
    ],
)
def test_the_wait_is_a_whole_number_of_seconds(header: str, seconds: int) -> None:
    assert preferred_wait_seconds(header) == seconds
