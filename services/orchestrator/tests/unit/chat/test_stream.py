"""The buffer between the task that runs a plan and the client that reads its answer."""

import asyncio

from orchestrator.chat.stream import StreamBuffer


async def test_an_answer_that_is_not_streamed_arrives_with_its_end() -> None:
    buffer: StreamBuffer[str] = StreamBuffer(100, stream=False)
    receiving = asyncio.ensure_future(buffer.receive())
    await buffer.put([b"first"])
    await buffer.put([b"second"])
    buffer.close_chunks()
    await asyncio.sleep(0)
    assert not receiving.done()

    buffer.end("done")

    assert await receiving == [b"first", b"second"]
    assert await buffer.receive() == "done"


async def test_a_large_answer_that_is_not_streamed_arrives_in_pieces() -> None:
    buffer: StreamBuffer[str] = StreamBuffer(10, stream=False)
    putting = asyncio.ensure_future(buffer.put([b"x" * 10]))
    await asyncio.sleep(0)
    assert not putting.done()

    assert await buffer.receive() == [b"x" * 10]
    await putting


async def test_a_streamed_answer_arrives_as_it_comes() -> None:
    buffer: StreamBuffer[str] = StreamBuffer(100)
    receiving = asyncio.ensure_future(buffer.receive())
    await buffer.put([b"first"])

    assert await receiving == [b"first"]
