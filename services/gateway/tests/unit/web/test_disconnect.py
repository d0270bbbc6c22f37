"""A disconnect cancels the block, whatever it awaits."""

import asyncio
import gc
import weakref
from collections.abc import MutableMapping
from typing import Any

import pytest
from chassis.http import ClientDisconnected
from gateway.web.disconnect import CancelOnDisconnect


class Client:
    """A server's `receive`, whose messages the test releases."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)
        self.released = asyncio.Event()
        self.waiting = 0

    async def receive(self) -> MutableMapping[str, Any]:
        self.waiting += 1
        try:
            await asyncio.sleep(0)
            await self.released.wait()
            return {"type": self.messages.pop(0)}
        finally:
            self.waiting -= 1


async def test_a_disconnect_cancels_what_is_awaited() -> None:
    client = Client("http.request", "http.request", "http.disconnect")
    asyncio.get_running_loop().call_later(0.001, client.released.set)
    with pytest.raises(ClientDisconnected), CancelOnDisconnect(client.receive):
        await asyncio.sleep(60)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_earlier_disconnect_cancels_the_first_await() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnected), CancelOnDisconnect(receive):
        await asyncio.sleep(60)


async def test_after_disarm_a_disconnect_is_ignored() -> None:
    client = Client("http.disconnect")
    with CancelOnDisconnect(client.receive) as disconnect:
        disconnect.disarm()
        client.released.set()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_receive_is_not_awaited_after_the_block() -> None:
    client = Client("http.disconnect")
    for run_loop in range(4):
        with CancelOnDisconnect(client.receive):
            for _ in range(run_loop):
                await asyncio.sleep(0)
        await asyncio.sleep(0)  # the cancelled task runs once more
        assert client.waiting == 0
    client.released.set()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_message_at_the_end_of_the_block_is_ignored() -> None:
    client = Client("http.disconnect")
    with CancelOnDisconnect(client.receive):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.released.set()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_another_cancellation_is_not_a_disconnect() -> None:
    client = Client("http.disconnect")

    async def respond() -> None:
        with CancelOnDisconnect(client.receive):
            await asyncio.sleep(60)

    task = asyncio.create_task(respond())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_is_raised() -> None:
    with pytest.raises(ValueError, match="mine"), CancelOnDisconnect(Client().receive):
        raise ValueError("mine")


async def test_nothing_is_left_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            client = Client("http.disconnect")
            left = weakref.ref(client)
            with CancelOnDisconnect(client.receive):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            del client
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert left() is None
    finally:
        gc.enable()
