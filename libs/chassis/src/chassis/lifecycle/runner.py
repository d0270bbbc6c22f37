"""One run of a service: start, serve, stop."""

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
from chassis.lifecycle.components import READY, Component, readiness
from chassis.settings import ServiceSettings
from chassis.telemetry import Telemetry, logger
from chassis.telemetry.rate_limited import RateLimitedLog

# Time after the drain for closing clients and the ops server. With it and the flush of traces, a drain of 25 s ends
# within the 30 s of a pod's grace period.
CLOSE_TIMEOUT_SECONDS = 2.0

# Container objects allocated, net of those freed, before a collection of the youngest generation; the default is 700.
GC_THRESHOLD = 20_000

S = TypeVar("S", bound=ServiceSettings)
Clients: TypeAlias = AbstractAsyncContextManager[Sequence[Component]]

log = logger("chassis.lifecycle")


async def serve(
    name: str,
    settings: S,
    build: Callable[[S, Telemetry], Clients],
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Run a service until a signal stops it or a component fails; returns the exit code."""
    _raise_file_limit()
    telemetry = Telemetry(name, settings.telemetry)
    run = _ServiceRun(settings.drain.total_seconds(), on_ready)
    with _signals(run.request_stop):
        try:
            await run.run(OpsServer(settings.ops, run.checks), build(settings, telemetry))
        finally:
            await telemetry.close()
            run.close()
    log.info("stopped", exit_code=run.exit_code)
    return run.exit_code


class _ServiceRun:
    """One run of a service and its exit code."""

    def __init__(self, drain_seconds: float, on_ready: Callable[[], None]) -> None:
        self.exit_code = 0
        self._on_ready = on_ready
        self._drain_seconds = drain_seconds
        self._started: list[Component] = []
        self._serving = False
        self._readiness_log = RateLimitedLog(log)
        self._stop_requested = asyncio.Event()
        self._starting: asyncio.Task[object] | None = None
        self._watchdog: threading.Timer | None = None

    async def checks(self) -> dict[str, str]:
        """Return the readiness checks, and log what is missing; `serving` is while it neither starts nor stops."""
        checks = await readiness(self._started)
        for name, state in checks.items():
            if state != READY:
                self._readiness_log.warning("not_ready", key=name, check=name, reason=state)
        return {"serving": READY if self._serving else "the service starts or stops", **checks}

    def request_stop(self, number: signal.Signals) -> None:
        """Stop at the first signal; exit at once at the second."""
        if self._stop_requested.is_set():
            log.critical("killed", signal=number.name, error="a second signal came while stopping")
            exit_now(1)
        log.info("stopping", signal=number.name)
        self._stop_requested.set()
        if self._starting is not None:
            self._starting.cancel()

    async def run(self, ops: OpsServer, clients: Clients) -> None:
        try:
            await ops.start()
        except Exception as error:  # noqa: BLE001 - logged, and in the exit code
            self._fail("start_failed", ops.name, error)
            return
        try:
            await self._run_components(ops, clients)
        finally:
            await self._stop_component(ops, asyncio.get_running_loop().time() + CLOSE_TIMEOUT_SECONDS)

    def close(self) -> None:
        """Cancel the watchdog, because everything has stopped."""
        if self._watchdog is not None:
            self._watchdog.cancel()

    async def _run_components(self, ops: Component, clients: Clients) -> None:
        task = self._starting = asyncio.current_task()
        try:
            async with clients as components:
                await self._start(components)
                if self.exit_code == 0 and not self._stop_requested.is_set():
                    await self._serve([ops, *components])
                await self._stop()
        except asyncio.CancelledError:
            # Translate only our own cancel: a stop requested while clients were being opened.
            if task is None or not self._stop_requested.is_set():
                raise
            task.uncancel()
        except Exception as error:  # noqa: BLE001 - logged, and in the exit code
            self._fail("close_failed" if self._watchdog else "start_failed", "clients", error)

    async def _start(self, components: Sequence[Component]) -> None:
        for component in components:
            if self._stop_requested.is_set():
                break
            try:
                await component.start()
            except asyncio.CancelledError:
                if self._starting is None or not self._stop_requested.is_set():
                    raise
                self._starting.uncancel()
                break
            except Exception as error:  # noqa: BLE001 - logged, and in the exit code
                self._fail("start_failed", component.name, error)
                break
            self._started.append(component)
        self._starting = None

    async def _serve(self, components: Sequence[Component]) -> None:
        failures = [(component, failed) for component in components if (failed := getattr(component, "failed", None))]
        stop_requested = asyncio.create_task(self._stop_requested.wait())
        _tune_gc()
        self._serving = True
        log.info("ready", components=[component.name for component in components])
        self._on_ready()
        await asyncio.wait([stop_requested, *(failed for _, failed in failures)], return_when=asyncio.FIRST_COMPLETED)
        stop_requested.cancel()
        for component, failed in failures:
            if failed.done() and not failed.cancelled():
                self._fail("component_failed", component.name, failed.exception() or RuntimeError("ended by itself"))

    async def _stop(self) -> None:
        self._serving = False
        self._watchdog = exit_after(self._drain_seconds + CLOSE_TIMEOUT_SECONDS)
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        while self._started:
            await self._stop_component(self._started.pop(), deadline)

    async def _stop_component(self, component: Component, deadline: float) -> None:
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                await component.stop()
        except Exception as error:  # noqa: BLE001 - logged, and in the exit code; the other components still stop
            overrun = TimeoutError("not done within the drain; its work was aborted")
            self._fail("stop_failed", component.name, overrun if limit.expired() else error)

    def _fail(self, event: str, component: str, error: BaseException) -> None:
        """Log why the process will exit with 1: an expected error by its message, a bug with its traceback."""
        self.exit_code = 1
        is_bug = not isinstance(error, ArgosyError | OSError)
        log.critical(
            event, component=component, error=str(error) or type(error).__name__, exc_info=error if is_bug else None
        )


def _raise_file_limit() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard limit: each client connection needs one."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _tune_gc() -> None:
    """Exclude long-lived objects from garbage collection and collect less often.

    Requests leave hardly any reference cycles, and collecting them took a tenth of the time of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def exit_now(code: int) -> NoReturn:
    """Exit without waiting for threads or finalizers."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def exit_after(seconds: float) -> threading.Timer:
    """Exit with 1 if the process still runs after `seconds`, even if its event loop hangs, unless cancelled before."""

    def overdue() -> None:
        log.critical("killed", error=f"still running {seconds:g} s after it should have begun to stop")
        exit_now(1)

    timer = threading.Timer(seconds, overdue)
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def _signals(request_stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)
    for number in handled:
        loop.add_signal_handler(number, request_stop, number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
