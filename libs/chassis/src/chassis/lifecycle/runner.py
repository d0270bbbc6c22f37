"""A service from its first breath to its last."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import NoReturn, TypeAlias, TypeVar

from chassis.errors import ArgosyError
from chassis.http import OpsServer
from chassis.lifecycle.components import Component, readiness
from chassis.settings import ServiceSettings
from chassis.telemetry import Telemetry, logger

# Beyond the drain, for clients and the ops server. With it and the flush of traces, a drain of 25 s ends within 30.
CLOSE_SECONDS = 2.0

# New objects that may be cycles, net of those freed, before the collector looks at them; Python's own is 700.
GARBAGE_OBJECTS = 20_000

S = TypeVar("S", bound=ServiceSettings)
Clients: TypeAlias = AbstractAsyncContextManager[Sequence[Component]]

log = logger("chassis.lifecycle")


async def serve(name: str, settings: S, build: Callable[[S, Telemetry], Clients]) -> int:
    """Run a service until it is asked to stop or a part of it fails; answer the exit code."""
    _allow_many_files()
    telemetry = Telemetry(name, settings.telemetry)
    run = _Run(settings.drain.total_seconds())
    with _signals(run.ask):
        try:
            await run.through(OpsServer(settings.ops, run.checks), build(settings, telemetry))
        finally:
            await telemetry.close()
            run.rest()
    log.info("stopped", exit_code=run.code)
    return run.code


class _Run:
    """One run of a service, and how it went."""

    def __init__(self, drain_seconds: float) -> None:
        self.code = 0
        self._drain_seconds = drain_seconds
        self._started: list[Component] = []
        self._serving = False
        self._asked = asyncio.Event()
        self._starting: asyncio.Task[object] | None = None
        self._watchdog: threading.Timer | None = None

    async def checks(self) -> dict[str, bool]:
        """What readiness is made of; `serving` is false while the service starts and while it stops."""
        return {"serving": self._serving, **await readiness(self._started)}

    def ask(self, number: signal.Signals) -> None:
        """A signal came: stop. The second one: leave at once."""
        if self._asked.is_set():
            log.critical("killed", signal=number.name, error="a second signal came while stopping")
            leave(1)
        log.info("stopping", signal=number.name)
        self._asked.set()
        if self._starting is not None:
            self._starting.cancel()

    async def through(self, ops: OpsServer, clients: Clients) -> None:
        """Start, serve, stop."""
        try:
            await ops.start()
        except Exception as error:  # noqa: BLE001 - logged, and in the exit code
            self._fail("start_failed", ops.name, error)
            return
        try:
            await self._between(ops, clients)
        finally:
            await self._in_time(ops, asyncio.get_running_loop().time() + CLOSE_SECONDS)

    def rest(self) -> None:
        """Everything has stopped: nothing needs watching any more."""
        if self._watchdog is not None:
            self._watchdog.cancel()

    async def _between(self, ops: Component, clients: Clients) -> None:
        task = self._starting = asyncio.current_task()
        try:
            async with clients as components:
                await self._start(components)
                if self.code == 0 and not self._asked.is_set():
                    await self._serve([ops, *components])
                await self._stop()
        except asyncio.CancelledError:
            # Asked to stop while clients were being opened; otherwise somebody else cancelled us.
            if task is None or not self._asked.is_set():
                raise
            task.uncancel()
        except Exception as error:  # noqa: BLE001 - logged, and in the exit code
            self._fail("close_failed" if self._watchdog else "start_failed", "clients", error)

    async def _start(self, components: Sequence[Component]) -> None:
        for component in components:
            if self._asked.is_set():
                break
            try:
                await component.start()
            except asyncio.CancelledError:
                if self._starting is None or not self._asked.is_set():
                    raise
                self._starting.uncancel()
                break
            except Exception as error:  # noqa: BLE001 - logged, and in the exit code
                self._fail("start_failed", component.name, error)
                break
            self._started.append(component)
        self._starting = None

    async def _serve(self, components: Sequence[Component]) -> None:
        ends = [(component, end) for component in components if (end := getattr(component, "failed", None)) is not None]
        asked = asyncio.create_task(self._asked.wait())
        _settle_garbage()
        self._serving = True
        log.info("ready", components=[component.name for component in components])
        await asyncio.wait([asked, *(end for _, end in ends)], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for component, end in ends:
            if end.done() and not end.cancelled():
                self._fail("component_failed", component.name, end.exception() or RuntimeError("ended by itself"))

    async def _stop(self) -> None:
        self._serving = False
        self._watchdog = leave_after(self._drain_seconds + CLOSE_SECONDS)
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        while self._started:
            await self._in_time(self._started.pop(), deadline)

    async def _in_time(self, component: Component, deadline: float) -> None:
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                await component.stop()
        except Exception as error:  # noqa: BLE001 - logged, and in the exit code; the others stop all the same
            overrun = TimeoutError("not done when the drain was over; its work is cut")
            self._fail("stop_failed", component.name, overrun if limit.expired() else error)

    def _fail(self, event: str, component: str, error: BaseException) -> None:
        """Log why the process will exit with 1: an expected state by its sentence, a bug with its traceback."""
        self.code = 1
        bug = not isinstance(error, ArgosyError | OSError)
        log.critical(
            event, component=component, error=str(error) or type(error).__name__, exc_info=error if bug else None
        )


def _allow_many_files() -> None:
    """Open as many files as the system lets us: each client's stream is one, and a soft limit is often 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _settle_garbage() -> None:
    """Keep the collector away from what lives as long as the process, and from each few hundred new objects.

    Requests leave next to no cycles behind, and looking for them took a tenth of the time of each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


def leave(code: int) -> NoReturn:
    """End the process here and now, whatever still runs."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def leave_after(seconds: float) -> threading.Timer:
    """End the process with 1 when it still runs after `seconds`, even if its loop is stuck; `cancel` calls it off."""

    def overdue() -> None:
        log.critical("killed", error=f"still running {seconds:g} s after it should have begun to stop")
        leave(1)

    timer = threading.Timer(seconds, overdue)
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def _signals(ask: Callable[[signal.Signals], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)
    for number in handled:
        loop.add_signal_handler(number, ask, number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
