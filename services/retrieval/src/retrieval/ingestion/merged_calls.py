"""Embeds the texts of several files by one call, for those who pay alike."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial

from chassis.errors import ArgosyError
from chassis.tenancy import Principal

from retrieval.embeddings.model import Vector
from retrieval.ingestion.model import is_transient

# While so many calls for a tenant's project and key are made, further texts wait for the next one.
MAX_CALLS = 2
# A batch of a large file, which is not merged further.
MAX_TEXTS = 32

EmbedAs = Callable[[Principal, list[str]], Awaitable[list[Vector]]]


@dataclass(frozen=True, slots=True)
class _Waiter:
    """The texts of a file, and who waits for their vectors."""

    texts: Sequence[str]
    vectors: asyncio.Future[list[Vector]]
    context: Context


class MergedCalls:
    """Texts wait only while calls for the same principal are being made: one that comes alone is embedded at once.

    Of a call that fails, the texts of each file are embedded by a call of their own, so that no text fails the files of
    others, and a budget that is too small for all of them still pays for some.
    """

    def __init__(self, embed: EmbedAs, max_texts: int = MAX_TEXTS, max_calls: int = MAX_CALLS) -> None:
        self._embed = embed
        self._max_texts = max_texts
        self._max_calls = max_calls
        self._waiting: dict[Principal, deque[_Waiter]] = {}
        self._calls: dict[Principal, set[asyncio.Task[None]]] = {}

    async def embed(self, principal: Principal, texts: Sequence[str]) -> list[Vector]:
        """One vector per text. Raises the errors of the call."""
        waiter = _Waiter(texts, asyncio.get_running_loop().create_future(), copy_context())
        self._waiting.setdefault(principal, deque()).append(waiter)
        self._start(principal)
        return await waiter.vectors

    def _start(self, principal: Principal) -> None:
        """Start the calls that may be made now."""
        waiting, calls = self._waiting.get(principal), self._calls.setdefault(principal, set())
        while waiting and len(calls) < self._max_calls:
            if batch := self._take(waiting):
                task = asyncio.get_running_loop().create_task(self._call(principal, batch), context=batch[0].context)
                calls.add(task)
                task.add_done_callback(partial(self._end, principal))
                for waiter in batch:
                    waiter.vectors.add_done_callback(partial(_cancel_unwanted, task, batch))
        if not waiting:
            self._waiting.pop(principal, None)
        if not calls:
            del self._calls[principal]

    def _end(self, principal: Principal, task: "asyncio.Task[None]") -> None:
        self._calls[principal].discard(task)
        self._start(principal)

    def _take(self, waiting: deque[_Waiter]) -> list[_Waiter]:
        """The next files, as many as one call has room for, without those that were given up."""
        batch: list[_Waiter] = []
        texts = 0
        while waiting and (not batch or texts + len(waiting[0].texts) <= self._max_texts):
            waiter = waiting.popleft()
            if not waiter.vectors.done():
                batch.append(waiter)
                texts += len(waiter.texts)
        return batch

    async def _call(self, principal: Principal, batch: Sequence[_Waiter]) -> None:
        # Equal texts of two files are paid for once.
        texts = list(dict.fromkeys(text for waiter in batch for text in waiter.texts))
        try:
            vectors = dict(zip(texts, await self._embed(principal, texts), strict=True))
        except asyncio.CancelledError:
            for waiter in batch:
                waiter.vectors.cancel()
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised to those who wait
            # What may pass by itself says nothing of a file: to split the call would send, and maybe pay, all twice.
            splits = len(batch) > 1 and not (isinstance(error, ArgosyError) and is_transient(error))
            for waiter in batch:
                if waiter.vectors.done():
                    continue
                if splits:
                    await self._call(principal, [waiter])
                else:
                    waiter.vectors.set_exception(error)
        else:
            for waiter in batch:
                if not waiter.vectors.done():
                    waiter.vectors.set_result([vectors[text] for text in waiter.texts])


def _cancel_unwanted(task: "asyncio.Task[None]", batch: Sequence[_Waiter], _: object) -> None:
    if all(waiter.vectors.cancelled() for waiter in batch):
        task.cancel()
