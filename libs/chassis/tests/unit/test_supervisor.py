"""Real processes: a parent, and the children that it forks."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from chassis.testing import SECRET, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a service has no parent")

PROGRAM = """
    import asyncio, ctypes, os, signal, sys
    from contextlib import asynccontextmanager
    from chassis.lifecycle import Loop, Service, command_line, supervised
    from chassis.settings import ServiceSettings
    from chassis.telemetry import logger
    from pydantic_settings import SettingsConfigDict

    mode = sys.argv.pop(1)
    log = logger("toy")

    class Settings(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="TOY_", env_nested_delimiter="__", frozen=True)

    async def work(stop):
        here = supervised()
        log.warning("working", pid=os.getpid(), family=here and here.family, restarts=here and here.restarts)
        if mode == "orphans" and not here.restarts:
            if not os.fork():
                if not os.fork():
                    log.warning("orphaned", pid=os.getpid())
                    os.execv("/bin/sleep", ["sleep", "1"])
                os._exit(0)
        await stop.wait()

    @asynccontextmanager
    async def build(settings, telemetry):
        if mode == "crashes at start":
            log.warning("starting", pid=os.getpid())
            os.kill(os.getpid(), signal.SIGSEGV)
        if mode == "cannot start":
            raise RuntimeError("no way")
        yield [Loop("work", work)]
        if mode == "breaks at the end":
            raise RuntimeError("broken")

    if mode == "orphans":  # as process 1 of a container
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    if mode == "stays":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if mode == "ignores children":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    command_line(Service("toy", Settings, build, supervised=lambda _: mode != "alone"))
"""


class Toy:
    """A service with a parent process, and its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    async def until(self, event: str, number: int = 1) -> dict[str, Any]:
        """Return the line of its log that is the first about `event`, or one after it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while len(found := [line for line in self.seen if line["event"] == event]) < number:
                line = await self.process.stdout.readline()
                assert line, f"it ended without {event}: {self.seen}"
                self.seen.append(json.loads(line))
        return found[-1]

    async def end(self) -> int:
        """Return the exit code, when all its processes have ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            self.seen += [json.loads(line) for line in (await self.process.stdout.read()).splitlines()]
            return await self.process.wait()

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.seen)


@asynccontextmanager
async def toy(mode: str) -> AsyncIterator[Toy]:
    environment = os.environ | {"TOY_PRINCIPAL__SECRETS": SECRET, "TOY_OPS__PORT": str(free_port())}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PROGRAM),
        mode,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Toy(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_child_that_is_killed_is_replaced_by_one_of_the_same_family() -> None:
    async with toy("serves") as it:
        first = await it.until("working")
        await it.until("ready")
        os.kill(first["pid"], signal.SIGKILL)
        killed = await it.until("service_killed")
        second = await it.until("working", 2)
        await it.until("ready", 2)
        it.process.terminate()

        assert await it.end() == 0

    assert (killed["signal"], killed["restarts"]) == ("SIGKILL", 1)
    assert first["pid"] != second["pid"]
    assert first["family"] == second["family"] != ""
    assert (first["restarts"], second["restarts"]) == (0, 1)


@pytest.mark.parametrize("killed_by", [signal.SIGSEGV, signal.SIGRTMIN + 6])
async def test_a_child_that_has_ignored_a_signal_is_replaced_after_another_kills_it(killed_by: int) -> None:
    async with toy("stays") as it:
        first = await it.until("working")
        it.process.send_signal(signal.SIGUSR1)
        # Signals are taken one after the other: after this one it has been passed on.
        os.kill(first["pid"], killed_by)

        assert (await it.until("working", 2))["restarts"] == 1
        it.process.terminate()
        await it.end()


async def test_a_parent_that_was_started_with_children_ignored_sees_its_child_end() -> None:
    async with toy("ignores children") as it:
        os.kill((await it.until("working"))["pid"], signal.SIGSEGV)

        assert (await it.until("working", 2))["restarts"] == 1
        it.process.terminate()
        assert await it.end() == 0


async def test_without_a_parent_it_serves_itself() -> None:
    async with toy("alone") as it:
        working = await it.until("working")
        assert (working["pid"], working["family"]) == (it.process.pid, None)
        it.process.terminate()
        assert await it.end() == 0


@pytest.mark.parametrize(("mode", "number", "code"), [("serves", signal.SIGTERM, 0), ("breaks at the end", 2, 1)])
async def test_a_signal_to_the_group_reaches_the_child_once_and_its_status_is_passed_on(
    mode: str, number: int, code: int
) -> None:
    async with toy(mode) as it:
        await it.until("ready")
        # As a terminal does on Ctrl-C, and `timeout`.
        os.killpg(it.process.pid, number)

        assert await it.end() == code

    assert it.count("stopping") == 1
    assert it.count("killed") == 0


async def test_a_child_that_cannot_start_ends_its_parent_with_its_status() -> None:
    async with toy("cannot start") as it:
        assert await it.end() == 1

    assert it.count("start_failed") == 1


async def test_children_that_are_killed_before_they_are_ready_are_given_up() -> None:
    async with toy("crashes at start") as it:
        assert await it.end() == 128 + signal.SIGSEGV

    assert it.count("starting") == 3
    assert it.count("service_given_up") == 1


async def test_a_stop_between_two_children_is_a_stop() -> None:
    async with toy("crashes at start") as it:
        await it.until("service_killed")
        it.process.terminate()

        assert await it.end() in {128 + signal.SIGSEGV, 128 + signal.SIGTERM}

    assert it.count("service_given_up") == 0


async def test_a_child_dies_with_its_parent() -> None:
    async with toy("serves") as it:
        child = psutil.Process((await it.until("working"))["pid"])
        it.process.kill()

        # The output ends when no process has it open any more.
        assert await it.end() == -signal.SIGKILL
        await asyncio.to_thread(child.wait, 60)


async def test_orphans_that_the_parent_adopts_are_reaped_and_taken_for_no_child() -> None:
    async with toy("orphans") as it:
        first = await it.until("working")
        orphan = psutil.Process((await it.until("orphaned"))["pid"])
        await asyncio.to_thread(orphan.wait, 60)
        assert [child.pid for child in psutil.Process(it.process.pid).children()] == [first["pid"]]
        it.process.terminate()

        assert await it.end() == 0

    assert it.count("working") == 1
    assert it.count("service_killed") == 0
