"""What an answer does between the task that runs it and the client that listens."""

import asyncio

from orchestrator.domain.outlet import Outlet


async def test_an_answer_that_is_not_streamed_goes_with_its_end() -> None:
    outlet: Outlet[str] = Outlet(100, at_once=False)
    taking = asyncio.ensure_future(outlet.take())
    await outlet.put([b"first"])
    await outlet.put([b"second"])
    outlet.over()
    await asyncio.sleep(0)
    assert not taking.done()

    outlet.end("done")

    assert await taking == [b"first", b"second"]
    assert await outlet.take() == "done"


async def test_an_answer_that_is_not_streamed_still_goes_in_pieces_when_it_is_large() -> None:
    outlet: Outlet[str] = Outlet(10, at_once=False)
    putting = asyncio.ensure_future(outlet.put([b"x" * 10]))
    await asyncio.sleep(0)
    assert not putting.done()

    assert await outlet.take() == [b"x" * 10]
    await putting


async def test_a_streamed_answer_goes_as_it_comes() -> None:
    outlet: Outlet[str] = Outlet(100)
    taking = asyncio.ensure_future(outlet.take())
    await outlet.put([b"first"])

    assert await taking == [b"first"]
