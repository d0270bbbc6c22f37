from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from argosy_dev import board, supervisor
from argosy_dev.board import Entry, State
from argosy_dev.part import Part
from argosy_dev.processes import Birth, wait_gone
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home
from argosy_dev.supervisor import Supervisor, Wanted

MakePart = Callable[..., Part]


@asynccontextmanager
async def supervised(home: Home, *parts: Part) -> AsyncIterator[Supervisor]:
    """Run a supervisor of these parts; it stops them at the end, as SIGTERM would make it."""
    Wanted(1, tuple(part.name for part in parts)).write(home)
    it = Supervisor(home, {part.name: part for part in parts})
    task = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        it.over()
        await task


async def until(home: Home, name: str, condition: Callable[[Entry], bool], seconds: float = 10.0) -> Entry:
    """Wait until the file says so, as `up` does."""
    async with asyncio.timeout(seconds):
        while True:
            entry = board.read(home).entries.get(name)
            if entry and condition(entry):
                return entry
            await asyncio.sleep(0.01)


def alive(entry: Entry) -> Birth:
    assert entry.process
    assert entry.process.alive()
    return entry.process


async def test_a_part_that_is_killed_runs_again_within_a_second(home: Home, a_part: MakePart) -> None:
    async with supervised(home, a_part("redis")):
        victim = alive(await until(home, "redis", lambda entry: entry.state is State.READY))

        began = time.monotonic()
        victim.send(signal.SIGKILL)
        entry = await until(home, "redis", lambda e: e.state is State.READY and e.process != victim)

        assert time.monotonic() - began < 1.0
        assert entry.restarts == 1
        assert alive(entry) != victim


async def test_a_part_that_served_once_is_restarted_however_often_it_dies(home: Home, a_part: MakePart) -> None:
    async with supervised(home, a_part("model", "import time; time.sleep(0.3)")):
        entry = await until(home, "model", lambda entry: entry.restarts >= 4)

        assert entry.state is not State.FAILED


async def test_a_part_that_never_serves_is_given_up_with_the_reason(home: Home, a_part: MakePart) -> None:
    async with supervised(home, a_part("kafka", "raise SystemExit(7)", probe=never)):
        entry = await until(home, "kafka", lambda entry: entry.state is State.FAILED)

        assert entry.detail == "ended with status 7"


async def test_a_part_that_takes_too_long_is_ended(home: Home, a_part: MakePart) -> None:
    async with supervised(home, a_part("kafka", probe=never, start_seconds=0.1)):
        entry = await until(home, "kafka", lambda entry: entry.state is State.FAILED)

    assert entry.detail == "was not ready within 0 s"


async def test_what_prevents_a_start_is_told_at_once(home: Home, a_part: MakePart) -> None:
    def refuse() -> None:
        raise Refusal("there is no room.")

    async with supervised(home, a_part("postgres", prepare=refuse)):
        entry = await until(home, "postgres", lambda entry: entry.state is State.FAILED)

        assert (entry.detail, entry.restarts) == ("there is no room.", 0)


async def test_a_program_that_does_not_exist_fails_its_part_alone(home: Home, a_part: MakePart) -> None:
    broken = Part(name="redis", command=lambda: ["/no/such/program"], probe=never)

    async with supervised(home, broken, a_part("kafka")):
        entry = await until(home, "redis", lambda entry: entry.state is State.FAILED)
        await until(home, "kafka", lambda entry: entry.state is State.READY)

        assert "program could not be started" in entry.detail


async def test_another_up_gives_a_part_that_was_given_up_a_new_chance(home: Home, a_part: MakePart) -> None:
    hurdle = home.root / "hurdle"
    hurdle.touch()

    def refuse() -> None:
        if hurdle.exists():
            raise Refusal("not yet.")

    async with supervised(home, a_part("postgres", prepare=refuse)) as it:
        await until(home, "postgres", lambda entry: entry.state is State.FAILED)
        hurdle.unlink()
        it.reload()

        await until(home, "postgres", lambda entry: entry.state is State.READY)


async def test_a_part_waits_for_the_step_that_it_needs(home: Home, a_part: MakePart) -> None:
    step = a_part("schemas", f"import time; time.sleep(0.2); open({str(home.root / 'done')!r}, 'w')", step=True)
    seen: list[bool] = []
    part = a_part("metering", needs=("schemas",), prepare=lambda: seen.append((home.root / "done").exists()))

    async with supervised(home, part, step):
        await until(home, "metering", lambda entry: entry.state is State.READY)

    assert seen == [True]


async def test_a_step_runs_once(home: Home, a_part: MakePart) -> None:
    marks = home.root / "marks"
    async with supervised(home, a_part("topics", f"open({str(marks)!r}, 'a').write('x')", step=True)) as it:
        await until(home, "topics", lambda entry: entry.state is State.DONE)
        it.reload()
        await asyncio.sleep(0.2)

    assert marks.read_text() == "x"


async def test_stopping_goes_from_dependants_to_what_they_need(home: Home, a_part: MakePart) -> None:
    ending = """if True:
        import signal, time
        signal.signal(15, lambda *_: print(time.time(), flush=True))
        print("up", flush=True)
        signal.pause()
    """

    parts = [a_part("postgres", ending), a_part("metering", ending, needs=("postgres",))]
    async with supervised(home, *parts):
        async with asyncio.timeout(10):
            while not all(home.log(part.name).exists() and home.log(part.name).read_text() for part in parts):
                await asyncio.sleep(0.01)

    first, second = (float(home.log(name).read_text().split()[1]) for name in ("metering", "postgres"))
    assert first < second


async def test_nothing_runs_after_stopping(home: Home, a_part: MakePart) -> None:
    async with supervised(home, a_part("redis"), a_part("kafka")):
        births = [alive(await until(home, name, lambda e: e.state is State.READY)) for name in ("redis", "kafka")]

    assert not any(birth.alive() for birth in births)
    assert {entry.state for entry in board.read(home).entries.values()} == {State.STOPPED}


async def test_what_a_killed_supervisor_left_is_ended_by_the_next(home: Home, a_part: MakePart) -> None:
    orphan = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    birth = Birth.of(orphan.pid)
    left = board.Board(home, Birth(1, "another boot:1"))
    await left.put("redis", state=State.READY, process=birth)

    async with supervised(home, a_part("kafka")):
        await until(home, "kafka", lambda entry: entry.state is State.READY)

        assert not birth.alive()
    await orphan.wait()


async def test_a_fleet_whose_folder_is_deleted_ends_by_itself(
    home: Home, a_part: MakePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.05)
    async with supervised(home, a_part("redis")) as it:
        birth = alive(await until(home, "redis", lambda entry: entry.state is State.READY))
        home.fleet.unlink()

        async with asyncio.timeout(5):
            await it.ended.wait()

    assert not birth.alive()


async def test_a_log_that_grew_large_is_moved_aside(
    home: Home, a_part: MakePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "_LOG_BYTES", 1000)
    home.log("redis").write_text("x" * 2000)
    async with supervised(home, a_part("redis")):
        async with asyncio.timeout(5):
            while home.log("redis").stat().st_size:
                await asyncio.sleep(0.01)

    assert (home.logs / "redis.log.1").read_text() == "x" * 2000


async def test_services_may_write_bytecode_and_print_unbuffered(
    home: Home, a_part: MakePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    names = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "MINE")
    line = f"import os; print(*(os.environ.get(name) for name in {names}))"
    async with supervised(home, a_part("step", line, step=True, environment=lambda: {"MINE": "yes"})):
        await until(home, "step", lambda entry: entry.state is State.DONE)

    assert home.log("step").read_text() == "None 1 yes\n"


def test_there_is_one_supervisor_per_home(home: Home) -> None:
    with suppress(FileNotFoundError):
        home.fleet.unlink()
    held = supervisor.lock(home)

    assert held is not None
    assert supervisor.lock(home) is None
    held.close()
    again = supervisor.lock(home)
    assert again is not None
    again.close()


def test_a_supervisor_that_died_does_not_run(home: Home) -> None:
    assert supervisor.running(home) is None
    died = {"generation": 1, "supervisor": {"pid": os.getpid(), "born": "another boot:1"}, "parts": {}}
    home.fleet.write_text(json.dumps(died))

    assert supervisor.running(home) is None


def test_a_file_cut_short_is_a_fleet_that_never_ran(home: Home) -> None:
    home.fleet.write_text('{"generation": 1, "sup')

    assert board.read(home).entries == {}


def test_the_last_lines_of_a_log_are_the_last(home: Home) -> None:
    home.log("redis").write_text("".join(f"line {n}\n" for n in range(5000)))

    assert supervisor.last_lines(home.log("redis"), 2) == ["line 4998", "line 4999"]
    assert supervisor.last_lines(home.log("none"), 2) == []


async def never() -> bool:
    return False


def test_waiting_for_nothing_is_over_at_once() -> None:
    assert wait_gone([], 0)
