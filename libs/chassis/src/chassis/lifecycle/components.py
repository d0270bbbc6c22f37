"""Components of a service: they start, may fail, and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from chassis.settings.environment import CREDENTIALS

READY = "ok"
READY_TIMEOUT_SECONDS = 1.0  # of one readiness check


class Component(Protocol):
    """A part of a running service.

    It may have `failed`, a future made by `start`: an exception set on it stops the process. It may have
    `async def ready(self) -> bool`: while that is False or raises, the service is not ready; the error is the reason.
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


async def readiness(components: Iterable[Component]) -> dict[str, str]:
    """Run all readiness checks concurrently; return for each `READY`, or why it is not ready.

    One that raises or takes over a second is not ready.
    """
    checked = [component for component in components if hasattr(component, "ready")]
    results = await asyncio.gather(*(_state(component) for component in checked))
    return {component.name: result for component, result in zip(checked, results, strict=True)}


async def _state(component: Component) -> str:
    limit = asyncio.timeout(READY_TIMEOUT_SECONDS)
    try:
        async with limit:
            return READY if await component.ready() else "not ready"  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - any error means not ready
        return f"no answer within {READY_TIMEOUT_SECONDS:g} s" if limit.expired() else _reason(error)


def _reason(error: Exception) -> str:
    """Return an error's message with the reason that a store gave, on one line and without credentials."""
    text = str(error) or type(error).__name__
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in text:
        text = f"{text}: {cause}"
    return CREDENTIALS.sub("**********", " ".join(text.split()))
