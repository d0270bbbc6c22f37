"""What a service is made of: parts that start, may fail, and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

READY_SECONDS = 1.0  # for one readiness check


class Component(Protocol):
    """A part of a running service.

    It may also have `failed`, a future made by `start`: an exception set on it stops the process. And it may have
    `async def ready(self) -> bool`: while that is false or raises, the service is not ready.
    """

    @property
    def name(self) -> str:
        """What logs and readiness call it."""
        ...

    async def start(self) -> None:
        """Begin to work; return when it works. Raises to keep the service from starting."""
        ...

    async def stop(self) -> None:
        """Take no new work, finish what is at hand, return when it is done; when cancelled, drop it."""
        ...


class Loop:
    """Runs `body(stop)` in the background; it returns soon after `stop` is set. If it raises, the service fails."""

    def __init__(self, name: str, body: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self.name = name
        self._body = body
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Start the body."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Ask the body to return, and wait until it did; when cancelled, cancel it."""
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        try:
            await self._body(self._stop)
        except Exception as error:  # noqa: BLE001 - handed to the lifecycle, which ends the process for it
            self.failed.set_exception(error)


class Check:
    """Makes readiness depend on a client: ready while `probe` neither raises nor answers False."""

    def __init__(self, name: str, probe: Callable[[], Awaitable[object]]) -> None:
        self.name = name
        self._probe = probe

    async def start(self) -> None:
        """Do nothing: a service starts while what it depends on is away."""

    async def stop(self) -> None:
        """Do nothing."""

    async def ready(self) -> bool:
        """Ask the probe."""
        return await self._probe() is not False


async def readiness(components: Iterable[Component]) -> dict[str, bool]:
    """Ask every component that can say whether it is ready, all at once; one that raises or dawdles is not."""
    asked = [component for component in components if hasattr(component, "ready")]
    answers = await asyncio.gather(*(_is_ready(component) for component in asked))
    return {component.name: answer for component, answer in zip(asked, answers, strict=True)}


async def _is_ready(component: Component) -> bool:
    try:
        async with asyncio.timeout(READY_SECONDS):
            return bool(await component.ready())  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - whatever it is, it is not ready
        return False
