"""Components of a service: they start, may fail, and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

READY_TIMEOUT_SECONDS = 1.0  # of one readiness check


class Component(Protocol):
    """A part of a running service.

    It may have `failed`, a future made by `start`: an exception set on it stops the process. It may have
    `async def ready(self) -> bool`: while that is False or raises, the service is not ready.
    """

    @property
    def name(self) -> str:
        """Its name in logs and readiness."""
        ...

    async def start(self) -> None:
        """Start, and return when it works. An exception keeps the service from starting."""
        ...

    async def stop(self) -> None:
        """Take no new work and return when the current work is done; when cancelled, abort it."""
        ...


class Loop:
    """Runs `body(stop)` in the background. The body returns soon after `stop` is set; its error stops the service."""

    def __init__(self, name: str, body: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self.name = name
        self._body = body
        self._stop = asyncio.Event()

    async def start(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Set `stop` and wait for the body; when cancelled, cancel it."""
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        try:
            await self._body(self._stop)
        except Exception as error:  # noqa: BLE001 - reported to the lifecycle, which ends the process
            self.failed.set_exception(error)


class Check:
    """A readiness check: ready while `probe` neither raises nor returns False."""

    def __init__(self, name: str, probe: Callable[[], Awaitable[object]]) -> None:
        self.name = name
        self._probe = probe

    async def start(self) -> None:
        """Do nothing: a service starts even while its dependencies are down."""

    async def stop(self) -> None:
        pass

    async def ready(self) -> bool:
        return await self._probe() is not False


async def readiness(components: Iterable[Component]) -> dict[str, bool]:
    """Run all readiness checks concurrently; one that raises or takes over a second counts as not ready."""
    checked = [component for component in components if hasattr(component, "ready")]
    results = await asyncio.gather(*(_is_ready(component) for component in checked))
    return {component.name: result for component, result in zip(checked, results, strict=True)}


async def _is_ready(component: Component) -> bool:
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            return bool(await component.ready())  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - any error means not ready
        return False
