"""Calls between processes, and to the stores: late, lost on the way, or done without a reply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from chassis.errors import ArgosyError, DeadlineExceeded, Unavailable

from services.orchestrator.tests.simulation.process import Process

T = TypeVar("T")
CALL_TIMEOUT_SECONDS = 10.0


@dataclass(slots=True)
class Link:
    """How well a peer can be reached."""

    rng: random.Random
    loss: float
    """Of requests, and as much of replies, as long as there is no outage."""
    latency_seconds: float
    """On average, each way."""
    outage_until: float = 0.0
    """All requests are lost until this time."""
    slow_until: float = 0.0
    """Each way takes a hundred times as long until this time."""

    async def request(self) -> None:
        """Carry a request. Raises `Unavailable` when it is lost."""
        await self._delay()
        if asyncio.get_running_loop().time() < self.outage_until or self.rng.random() < self.loss:
            await asyncio.sleep(self.rng.uniform(0, 1))
            raise Unavailable("the request was lost")

    async def reply(self) -> None:
        """Carry a reply. Raises `Unavailable` when it is lost: what was asked for has been done."""
        await self._delay()
        if self.rng.random() < self.loss:
            await asyncio.sleep(self.rng.uniform(0, 1))
            raise Unavailable("the reply was lost")

    async def _delay(self) -> None:
        # Seldom a long one, such as a full buffer or a retransmission.
        slow = asyncio.get_running_loop().time() < self.slow_until
        longer = 100 if slow or (self.loss and self.rng.random() < self.loss / 4) else 1
        await asyncio.sleep(self.rng.expovariate(1 / self.latency_seconds) * longer)


class Remote:
    """A store as one process reaches it: each method of `target` is called over `link`."""

    def __init__(self, process: Process, link: Link, execute: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        """`execute` takes the process, the name of the method and its arguments."""
        self._process = process
        self._link = link
        self._execute = execute

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any) -> Any:
            await self._process.gate()
            await self._link.request()
            # What was sent before the process died is done or not, as the connection breaks before or after.
            if not self._process.alive and self._link.rng.random() < 0.5:
                await self._process.gate()
            try:
                result = await self._execute(self._process, name, *args)
            finally:
                await self._process.gate()
            await self._link.reply()
            await self._process.gate()
            return result

        return call


async def call_process(
    caller: Process, find: Callable[[], tuple[Process, Callable[[], Coroutine[Any, Any, T]]] | None], link: Link
) -> T:
    """Call another process. `find` chooses one that lives, and its handler.

    When the caller dies or gives up, the handler is cancelled, as gRPC does. Raises what the handler raises, and
    `Unavailable` or `DeadlineExceeded`.
    """
    await caller.gate()
    await link.request()
    await caller.gate()
    found = find()
    if found is None:
        await caller.sleep(0.5)
        raise Unavailable("no replica is there")
    process, handle = found
    reply: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    handler = process.spawn(_handle(process, handle, reply))
    process.on_death.append(lambda: _fail(reply, Unavailable("the peer died")))
    caller.on_death.append(lambda: _cancel_later(handler, link.rng.uniform(0, 2)))
    timer = asyncio.get_running_loop().call_later(
        CALL_TIMEOUT_SECONDS, lambda: _fail(reply, DeadlineExceeded("the peer does not answer"))
    )
    try:
        result = await reply
    except BaseException:
        handler.cancel()
        await caller.gate()
        raise
    finally:
        timer.cancel()
    await caller.gate()
    await link.reply()
    await caller.gate()
    return result


async def _handle(process: Process, handle: Callable[[], Coroutine[Any, Any, T]], reply: asyncio.Future[T]) -> None:
    await process.gate()
    try:
        result = await handle()
    except ArgosyError as error:
        _fail(reply, error)
    except asyncio.CancelledError:
        _fail(reply, Unavailable("the call was cancelled"))
        raise
    except Exception as error:  # noqa: BLE001 - reported as a bug
        process.report(error)
        _fail(reply, Unavailable("the handler failed"))
    else:
        if not reply.done():
            reply.set_result(result)


def _cancel_later(handler: asyncio.Task[None], seconds: float) -> None:
    asyncio.get_running_loop().call_later(seconds, handler.cancel)


def _fail(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
