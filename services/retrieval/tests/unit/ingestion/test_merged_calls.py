"""Texts of several files of a tenant are embedded by one call; a failure stays with its file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from chassis.errors import InvalidRequest, Unavailable
from chassis.tenancy import Principal
from chassis.testing import a_principal
from retrieval.embeddings.model import Vector
from retrieval.ingestion.merged_calls import MergedCalls

from services.retrieval.tests.texts import a_vector


class Upstream:
    """Answers when it is allowed to. Refuses texts that begin with `bad`, with all others of their call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Principal, list[str]]] = []
        self.open = asyncio.Event()
        self.cancelled = 0

    async def embed(self, principal: Principal, texts: list[str]) -> list[Vector]:
        self.calls.append((principal, texts))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if any(text.startswith("bad") for text in texts):
            raise InvalidRequest("the model refuses a text")
        return [a_vector(text) for text in texts]

    @property
    def texts(self) -> list[list[str]]:
        return [texts for _, texts in self.calls]


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


ONE, OTHER = a_principal("ten_one"), a_principal("ten_other")


async def started(calls: MergedCalls, *texts: Sequence[str], who: Principal = ONE) -> list[asyncio.Task[list[Vector]]]:
    tasks = [asyncio.create_task(calls.embed(who, each)) for each in texts]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_texts_that_come_during_calls_share_the_next_one(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_calls=1)
    files = await started(calls, ["a"], ["b", "c"], ["d"])
    assert upstream.texts == [["a"]]

    upstream.open.set()
    vectors = await asyncio.gather(*files)

    assert upstream.texts == [["a"], ["b", "c", "d"]]
    assert vectors == [[a_vector("a")], [a_vector("b"), a_vector("c")], [a_vector("d")]]


async def test_those_who_pay_apart_are_not_merged(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_calls=1)
    other_key = Principal("ten_one", project_id="prj_test", key_id="another", roles=ONE.roles)
    files = await started(calls, ["a"], ["b"])
    files += await started(calls, ["c"], ["d"], who=OTHER)
    files += await started(calls, ["e"], who=other_key)
    upstream.open.set()
    await asyncio.gather(*files)

    assert sorted(upstream.calls, key=lambda call: call[1]) == [
        (ONE, ["a"]),
        (ONE, ["b"]),
        (OTHER, ["c"]),
        (OTHER, ["d"]),
        (other_key, ["e"]),
    ]


async def test_a_call_has_no_more_texts_than_it_may_unless_one_file_has(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_texts=3, max_calls=1)
    files = await started(calls, ["a"], ["b", "c"], ["d", "e"], ["f"] * 1 + ["g", "h", "i"])
    upstream.open.set()
    await asyncio.gather(*files)

    assert upstream.texts == [["a"], ["b", "c"], ["d", "e"], ["f", "g", "h", "i"]]


async def test_equal_texts_of_two_files_are_embedded_once(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_calls=1)
    files = await started(calls, ["a"], ["same", "b"], ["same"])
    upstream.open.set()
    vectors = await asyncio.gather(*files)

    assert upstream.texts == [["a"], ["same", "b"]]
    assert vectors[1:] == [[a_vector("same"), a_vector("b")], [a_vector("same")]]


async def test_a_text_that_fails_its_call_fails_its_file_alone(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_calls=1)
    files = await started(calls, ["a"], ["b"], ["bad"], ["c", "d"])
    upstream.open.set()
    results = await asyncio.gather(*files, return_exceptions=True)

    assert results[0] == [a_vector("a")]
    assert results[1] == [a_vector("b")]
    assert isinstance(results[2], InvalidRequest)
    assert results[3] == [a_vector("c"), a_vector("d")]
    assert upstream.texts == [["a"], ["b", "bad", "c", "d"], ["b"], ["bad"], ["c", "d"]]


async def test_an_outage_is_raised_to_each_file_of_a_call_and_no_text_is_sent_twice() -> None:
    sent: list[str] = []

    async def down(_: Principal, texts: list[str]) -> list[Vector]:
        sent.extend(texts)
        raise Unavailable("the orchestrator does not answer")

    results = await asyncio.gather(
        *await started(MergedCalls(down, max_calls=1), ["a"], ["b"], ["c"]), return_exceptions=True
    )

    assert [type(result) for result in results] == [Unavailable] * 3
    assert sorted(sent) == ["a", "b", "c"]


async def test_a_file_that_is_given_up_takes_no_part_and_stops_no_other(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_calls=1)
    first, second, third = await started(calls, ["a"], ["b"], ["c"])
    second.cancel()
    await asyncio.wait([second])
    upstream.open.set()

    assert await third == [a_vector("c")]
    assert await first == [a_vector("a")]
    assert upstream.texts == [["a"], ["c"]]


async def test_a_call_that_all_have_given_up_is_cancelled(upstream: Upstream) -> None:
    calls = MergedCalls(upstream.embed, max_calls=1)
    [file] = await started(calls, ["a"])
    file.cancel()
    await asyncio.wait([file])
    await asyncio.sleep(0)

    assert upstream.cancelled == 1
    upstream.open.set()
    assert await calls.embed(ONE, ["b"]) == [a_vector("b")]
