"""Noticing that a client has left: whatever the server waits for meanwhile, and however often."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from chassis.http import ClientDisconnected
from gateway.api.departure import Departure


class Client:
    """What a server's `receive` says, when the test wants it."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)
        self.speaks = asyncio.Event()
        self.listened_to = 0

    async def receive(self) -> MutableMapping[str, Any]:
        self.listened_to += 1
        try:
            await asyncio.sleep(0)
            await self.speaks.wait()
            return {"type": self.messages.pop(0)}
        finally:
            self.listened_to -= 1


async def test_who_leaves_while_something_is_awaited_abandons_it() -> None:
    client = Client("http.request", "http.request", "http.disconnect")
    asyncio.get_running_loop().call_later(0.001, client.speaks.set)
    with pytest.raises(ClientDisconnected), Departure(client.receive):
        await asyncio.sleep(60)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_has_left_before_is_noticed_at_the_first_pause() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnected), Departure(receive):
        await asyncio.sleep(60)


async def test_after_the_answer_is_as_good_as_sent_leaving_is_no_news() -> None:
    client = Client("http.disconnect")
    with Departure(client.receive) as departure:
        departure.settle()
        client.speaks.set()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_nobody_listens_any_more_when_the_block_is_over() -> None:
    client = Client("http.disconnect")
    for turns in range(4):
        with Departure(client.receive):
            for _ in range(turns):
                await asyncio.sleep(0)
        assert client.listened_to == 0
    client.speaks.set()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_message_that_arrives_as_the_block_ends_harms_nobody() -> None:
    client = Client("http.disconnect")
    with Departure(client.receive):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.speaks.set()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_process_that_stops_is_not_a_client_that_left() -> None:
    client = Client("http.disconnect")

    async def answer() -> None:
        with Departure(client.receive):
            await asyncio.sleep(60)

    task = asyncio.create_task(answer())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_of_the_block_goes_on_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), Departure(Client().receive):
        raise ValueError("mine")
