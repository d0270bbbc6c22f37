import asyncio
import json
import os
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from chassis.errors import Unavailable
from chassis.lifecycle import Check, Component, Loop, serve
from chassis.settings import OpsSection, PostgresSection, ServiceSettings
from chassis.telemetry import Telemetry
from chassis.testing import SECRET, free_port
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection | None = Field(None, description="Where toys are kept.")


class Part:
    """A component that records its calls."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        self.diary.append(f"start {self.name}")

    async def stop(self) -> None:
        self.diary.append(f"stop {self.name}")


class Toy:
    """A service in the test's process, with its output and exit code."""

    def __init__(self, captured: pytest.CaptureFixture[bytes]) -> None:
        self.diary: list[str] = []
        self.settings = Settings(
            ops=OpsSection(port=free_port()), principal={"secrets": SECRET}, drain=timedelta(seconds=5)
        )
        self._captured = captured
        self._lines: list[dict[str, Any]] = []

    def run(self, *parts: Component) -> Awaitable[int]:
        return self.run_built(lambda: parts)

    def run_built(self, make: Callable[[], Sequence[Component]]) -> Awaitable[int]:
        @asynccontextmanager
        async def build(_: Settings, __: Telemetry) -> AsyncIterator[Sequence[Component]]:
            self.diary.append("open clients")
            try:
                yield make()
            finally:
                self.diary.append("close clients")

        return asyncio.ensure_future(serve("toy", self.settings, build))

    def logged(self) -> list[dict[str, Any]]:
        self._lines += [json.loads(line) for line in self._captured.readouterr().out.splitlines()]
        return self._lines

    def events(self) -> list[str]:
        return [line["event"] for line in self.logged()]

    def line(self, event: str) -> dict[str, Any]:
        (found,) = [line for line in self.logged() if line["event"] == event]
        return found

    async def until(self, event: str) -> None:
        while event not in self.events():
            await asyncio.sleep(0.01)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{self.settings.ops.port}{path}")


@pytest.fixture
def toy(capsysbinary: pytest.CaptureFixture[bytes], logs_as_they_were: None) -> Toy:
    return Toy(capsysbinary)


def ask(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_parts_start_in_order_and_stop_in_reverse_before_their_clients(toy: Toy, number: signal.Signals) -> None:
    running = toy.run(Part("first", toy.diary), Part("second", toy.diary))
    await toy.until("ready")
    ask(number)

    assert await running == 0
    assert toy.diary == [
        "open clients",
        "start first",
        "start second",
        "stop second",
        "stop first",
        "close clients",
    ]
    assert toy.events() == ["ready", "stopping", "stopped"]
    assert toy.line("stopping")["signal"] == number.name


async def test_the_signal_handlers_are_given_back(toy: Toy) -> None:
    running = toy.run()
    await toy.until("ready")
    ask()
    await running

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_it_may_open_as_many_files_as_the_system_lets_it(toy: Toy) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        running = toy.run()
        await toy.until("ready")
        ask()
        await running

        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_it_is_alive_at_once_and_ready_only_between_start_and_stop(toy: Toy) -> None:
    begin, end = asyncio.Event(), asyncio.Event()

    class Slow(Part):
        async def start(self) -> None:
            await begin.wait()

        async def stop(self) -> None:
            await end.wait()

    async def printed() -> tuple[int, int]:
        return (await toy.get("/healthz")).status_code, (await toy.get("/readyz")).status_code

    running = toy.run(Slow("slow", toy.diary))
    while "open clients" not in toy.diary:
        await asyncio.sleep(0)
    assert await printed() == (200, 503)
    begin.set()
    await toy.until("ready")
    assert await printed() == (200, 200)
    ask()
    await toy.until("stopping")
    assert await printed() == (200, 503)
    end.set()
    assert await running == 0


async def test_it_is_ready_while_every_check_is(toy: Toy) -> None:
    answers: dict[str, Any] = {"plain": None, "says no": False}

    async def plain() -> object:
        if isinstance(answers["plain"], Exception):
            raise answers["plain"]
        return answers["plain"]

    async def says_no() -> object:
        return answers["says no"]

    running = toy.run(Check("plain", plain), Check("says no", says_no))
    await toy.until("ready")

    assert (await toy.get("/readyz")).json()["checks"] == {"serving": "ok", "plain": "ok", "says no": "not ready"}
    answers |= {"says no": True}
    assert (await toy.get("/readyz")).status_code == 200
    answers |= {"plain": Unavailable("away")}
    assert (await toy.get("/readyz")).json()["checks"]["plain"] == "away"
    ask()
    assert await running == 0


async def test_a_slow_check_is_not_ready(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.lifecycle.components.READY_TIMEOUT_SECONDS", 0.5)

    async def dawdle() -> None:
        await asyncio.Event().wait()

    running = toy.run(Check("slow", dawdle))
    await toy.until("ready")

    assert (await toy.get("/readyz")).json() == {
        "ready": False,
        "checks": {"serving": "ok", "slow": "no answer within 0.5 s"},
    }
    ask()
    assert await running == 0


@pytest.mark.parametrize(("error", "traced"), [(Unavailable("no brokers"), False), (RuntimeError("a bug"), True)])
async def test_a_part_that_does_not_start_ends_it_and_what_was_started_stops(
    toy: Toy, error: Exception, traced: bool
) -> None:
    class Broken(Part):
        async def start(self) -> None:
            raise error

    code = await toy.run(Part("first", toy.diary), Broken("second", toy.diary), Part("third", toy.diary))

    assert code == 1
    assert toy.diary == ["open clients", "start first", "stop first", "close clients"]
    failure = toy.line("start_failed")
    assert (failure["component"], failure["error"], failure["level"]) == ("second", str(error), "critical")
    assert ("exception" in failure) is traced


async def test_clients_that_do_not_open_end_it(toy: Toy) -> None:
    def make() -> Sequence[Component]:
        raise Unavailable("no database")

    assert await toy.run_built(make) == 1
    assert toy.line("start_failed")["error"] == "no database"
    with pytest.raises(httpx.ConnectError):
        await toy.get("/healthz")


async def test_a_taken_ops_port_ends_it_by_one_clear_line(toy: Toy) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", toy.settings.ops.port))
        other.listen()

        assert await toy.run(Part("first", toy.diary)) == 1

    assert toy.diary == []
    assert toy.line("start_failed")["error"].startswith(f"cannot listen on 127.0.0.1:{toy.settings.ops.port}")


async def test_a_part_that_fails_later_ends_it_in_order(toy: Toy) -> None:
    first, second = Part("first", toy.diary), Part("second", toy.diary)
    running = toy.run(first, second)
    await toy.until("ready")
    first.failed.set_exception(RuntimeError("lost the broker"))

    assert await running == 1
    assert toy.diary[-3:] == ["stop second", "stop first", "close clients"]
    failure = toy.line("component_failed")
    assert (failure["component"], failure["error"]) == ("first", "lost the broker")


async def test_a_loop_runs_until_it_is_stopped(toy: Toy) -> None:
    async def turn(stop: asyncio.Event) -> None:
        toy.diary.append("turning")
        await stop.wait()
        toy.diary.append("done")

    running = toy.run(Loop("wheel", turn))
    await toy.until("ready")
    await asyncio.sleep(0)
    ask()

    assert await running == 0
    assert toy.diary == ["open clients", "turning", "done", "close clients"]


async def test_a_loop_that_crashes_ends_the_service(toy: Toy) -> None:
    async def crash(_: asyncio.Event) -> None:
        raise ZeroDivisionError("wheel off")

    assert await toy.run(Loop("wheel", crash)) == 1
    failure = toy.line("component_failed")
    assert (failure["component"], failure["error"]) == ("wheel", "wheel off")
    assert "ZeroDivisionError" in failure["exception"]


async def test_a_component_that_overruns_the_drain_is_aborted_and_the_others_still_stop(toy: Toy) -> None:
    class Stuck(Part):
        async def stop(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.diary.append(f"cut {self.name}")
                raise

    toy.settings = toy.settings.model_copy(update={"drain": timedelta(seconds=0.1)})
    running = toy.run(Part("first", toy.diary), Stuck("second", toy.diary))
    await toy.until("ready")
    ask()

    assert await running == 1
    assert toy.diary[-3:] == ["cut second", "stop first", "close clients"]
    assert "within the drain" in toy.line("stop_failed")["error"]


async def test_a_part_that_fails_to_stop_does_not_keep_the_others(toy: Toy) -> None:
    class Broken(Part):
        async def stop(self) -> None:
            raise RuntimeError("jammed")

    running = toy.run(Part("first", toy.diary), Broken("second", toy.diary))
    await toy.until("ready")
    ask()

    assert await running == 1
    assert toy.diary[-2:] == ["stop first", "close clients"]
    assert toy.line("stop_failed")["error"] == "jammed"


async def test_a_stop_during_the_start_stops_the_started_components(toy: Toy) -> None:
    class Slow(Part):
        async def start(self) -> None:
            self.diary.append("starting slow")
            await asyncio.Event().wait()

    running = toy.run(Part("first", toy.diary), Slow("second", toy.diary), Part("third", toy.diary))
    while "starting slow" not in toy.diary:
        await asyncio.sleep(0)
    ask()

    assert await running == 0
    assert toy.diary == ["open clients", "start first", "starting slow", "stop first", "close clients"]


async def test_a_stop_while_clients_are_opened_exits_with_0(toy: Toy) -> None:
    opening = asyncio.Event()

    @asynccontextmanager
    async def build(_: Settings, __: Telemetry) -> AsyncIterator[Sequence[Component]]:
        opening.set()
        await asyncio.Event().wait()
        yield []

    running = asyncio.ensure_future(serve("toy", toy.settings, build))
    await opening.wait()
    ask()

    assert await running == 0


async def test_a_second_signal_ends_it_at_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("chassis.lifecycle.runner.exit_now", left.append)
    end = asyncio.Event()

    class Slow(Part):
        async def stop(self) -> None:
            await end.wait()

    running = toy.run(Slow("slow", toy.diary))
    await toy.until("ready")
    ask()
    await toy.until("stopping")
    ask()
    await toy.until("killed")
    end.set()
    await running

    assert left == [1]


async def test_a_process_that_hangs_while_stopping_is_ended(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()
    monkeypatch.setattr("chassis.lifecycle.runner.exit_now", lambda _: left.set())
    monkeypatch.setattr("chassis.lifecycle.runner.CLOSE_TIMEOUT_SECONDS", 0.1)
    toy.settings = toy.settings.model_copy(update={"drain": timedelta(seconds=0.1)})

    class Deaf(Part):
        async def stop(self) -> None:
            left.wait(timeout=60)  # it blocks the loop, so no timeout of the loop can help

    running = toy.run(Deaf("deaf", toy.diary))
    await toy.until("ready")
    ask()
    await running

    assert left.is_set()
    assert "still running" in toy.line("killed")["error"]
