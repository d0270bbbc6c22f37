from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress

import pytest
from argosy_dev.errors import CliError
from argosy_dev.fleet import process as process_module
from argosy_dev.fleet import supervisor as supervisor_module
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.process_identity import ProcessIdentity, wait_until_ended
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import FleetState, PartStatus, read_state
from argosy_dev.fleet.supervisor import (
    acquire_lock,
    last_lines,
    running_supervisor,
    supervise,
)

from dev.tests.supervised import MakeSpec, alive, supervised, wait_for


async def test_a_part_that_is_killed_runs_again_after_a_tenth_of_a_second(
    paths: FleetPaths, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = (600.0,) * (len(process_module._RESTART_DELAYS) - 1)
    monkeypatch.setattr(process_module, "_RESTART_DELAYS", (process_module._RESTART_DELAYS[0], *later))
    async with supervised(paths, make_spec("redis")):
        victim = alive(await wait_for(paths, "redis", lambda state: state.status is PartStatus.READY))

        victim.send(signal.SIGKILL)
        state = await wait_for(paths, "redis", lambda e: e.status is PartStatus.READY and e.process != victim)

        assert process_module._RESTART_DELAYS[0] == 0.1
        assert state.restarts == 1
        assert alive(state) != victim


async def test_a_part_that_was_ready_once_is_restarted_without_limit(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, make_spec("model", "import time; time.sleep(0.3)")):
        state = await wait_for(paths, "model", lambda state: state.restarts >= 4)

        assert state.status is not PartStatus.FAILED


async def test_a_part_that_never_becomes_ready_fails_with_the_reason(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, make_spec("kafka", "raise SystemExit(7)", probe=never)):
        state = await wait_for(paths, "kafka", lambda state: state.status is PartStatus.FAILED)

        assert state.detail == "ended with status 7"


async def test_a_part_that_is_not_ready_in_time_is_stopped(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, make_spec("kafka", probe=never, start_seconds=0.1)):
        state = await wait_for(paths, "kafka", lambda state: state.status is PartStatus.FAILED)

    assert state.detail == "was not ready within 0 s"


async def test_a_permanent_error_fails_the_part_at_the_first_attempt(paths: FleetPaths, make_spec: MakeSpec) -> None:
    def refuse() -> None:
        raise CliError("there is no room.")

    async with supervised(paths, make_spec("postgres", prepare=refuse)):
        state = await wait_for(paths, "postgres", lambda state: state.status is PartStatus.FAILED)

        assert (state.detail, state.restarts) == ("there is no room.", 0)


async def test_a_program_that_does_not_exist_fails_its_part_alone(paths: FleetPaths, make_spec: MakeSpec) -> None:
    broken = ProcessSpec(name="redis", command=lambda: ["/no/such/program"], probe=never)

    async with supervised(paths, broken, make_spec("kafka")):
        state = await wait_for(paths, "redis", lambda state: state.status is PartStatus.FAILED)
        await wait_for(paths, "kafka", lambda state: state.status is PartStatus.READY)

        assert "program could not be started" in state.detail


async def test_a_reload_retries_a_failed_part(paths: FleetPaths, make_spec: MakeSpec) -> None:
    hurdle = paths.root / "hurdle"
    hurdle.touch()

    def refuse() -> None:
        if hurdle.exists():
            raise CliError("not yet.")

    async with supervised(paths, make_spec("postgres", prepare=refuse)) as supervisor:
        await wait_for(paths, "postgres", lambda state: state.status is PartStatus.FAILED)
        hurdle.unlink()
        supervisor.reload()

        await wait_for(paths, "postgres", lambda state: state.status is PartStatus.READY)


async def test_a_part_waits_for_the_step_that_it_needs(paths: FleetPaths, make_spec: MakeSpec) -> None:
    step = make_spec("schemas", f"import time; time.sleep(0.2); open({str(paths.root / 'done')!r}, 'w')", step=True)
    seen: list[bool] = []
    part = make_spec("metering", needs=("schemas",), prepare=lambda: seen.append((paths.root / "done").exists()))

    async with supervised(paths, part, step):
        await wait_for(paths, "metering", lambda state: state.status is PartStatus.READY)

    assert seen == [True]


async def test_a_step_runs_once(paths: FleetPaths, make_spec: MakeSpec) -> None:
    marks = paths.root / "marks"
    async with supervised(paths, make_spec("topics", f"open({str(marks)!r}, 'a').write('x')", step=True)) as supervisor:
        await wait_for(paths, "topics", lambda state: state.status is PartStatus.DONE)
        supervisor.reload()
        await asyncio.sleep(0.2)

    assert marks.read_text() == "x"


async def test_dependants_stop_before_their_dependencies(paths: FleetPaths, make_spec: MakeSpec) -> None:
    script = """if True:
        import signal, time
        signal.signal(15, lambda *_: print(time.time(), flush=True))
        print("up", flush=True)
        signal.pause()
    """

    parts = [make_spec("postgres", script), make_spec("metering", script, needs=("postgres",))]
    async with supervised(paths, *parts):
        async with asyncio.timeout(30):
            while not all(paths.log(part.name).exists() and paths.log(part.name).read_text() for part in parts):
                await asyncio.sleep(0.01)

    first, second = (float(paths.log(name).read_text().split()[1]) for name in ("metering", "postgres"))
    assert first < second


async def test_no_process_runs_after_the_stop(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, make_spec("redis"), make_spec("kafka")):
        processes = [
            alive(await wait_for(paths, name, lambda e: e.status is PartStatus.READY)) for name in ("redis", "kafka")
        ]

    assert not any(process.alive() for process in processes)
    assert {state.status for state in read_state(paths).parts.values()} == {PartStatus.STOPPED}


async def test_the_next_supervisor_stops_the_processes_of_a_killed_one(paths: FleetPaths, make_spec: MakeSpec) -> None:
    orphan = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    process = ProcessIdentity.of(orphan.pid)
    left = FleetState(paths, ProcessIdentity(1, "another boot:1"))
    await left.update("redis", status=PartStatus.READY, process=process)

    async with supervised(paths, make_spec("kafka")):
        await wait_for(paths, "kafka", lambda state: state.status is PartStatus.READY)

        assert not process.alive()
    await orphan.wait()


async def test_a_fleet_whose_folder_is_deleted_stops_itself(
    paths: FleetPaths, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_CHECK_INTERVAL_SECONDS", 0.05)
    async with supervised(paths, make_spec("redis")) as supervisor:
        process = alive(await wait_for(paths, "redis", lambda state: state.status is PartStatus.READY))
        paths.fleet.unlink()

        async with asyncio.timeout(30):
            await supervisor.stopped.wait()

    assert not process.alive()


async def test_a_large_log_is_rotated(paths: FleetPaths, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_CHECK_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(supervisor_module, "_MAX_LOG_BYTES", 1000)
    paths.log("redis").write_text("x" * 2000)
    async with supervised(paths, make_spec("redis")):
        async with asyncio.timeout(30):
            while paths.log("redis").stat().st_size:
                await asyncio.sleep(0.01)

    assert (paths.logs / "redis.log.1").read_text() == "x" * 2000


async def test_logs_and_state_are_readable_by_their_owner_alone(
    paths: FleetPaths, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_CHECK_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(supervisor_module, "_MAX_LOG_BYTES", 1)
    async with supervised(paths, make_spec("redis", "import time; print('up', flush=True); time.sleep(60)")):
        await wait_for(paths, "redis", lambda state: state.status is PartStatus.READY)
        async with asyncio.timeout(30):
            while not (rotated := paths.logs / "redis.log.1").exists():
                await asyncio.sleep(0.01)

    for path in (paths.log("redis"), rotated, paths.fleet, paths.desired):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_parts_inherit_a_mask_that_keeps_others_out(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[int] = []

    def run(coroutine: Coroutine[None, None, None]) -> None:
        coroutine.close()
        masks.append(os.umask(0o077))

    monkeypatch.setattr(asyncio, "run", run)
    monkeypatch.chdir(paths.root)
    before = os.umask(0o022)
    try:
        supervise(paths, {})
    finally:
        os.umask(before)

    assert masks == [0o077]


async def test_parts_write_bytecode_and_print_unbuffered(
    paths: FleetPaths, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    names = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "MINE")
    line = f"import os; print(*(os.environ.get(name) for name in {names}))"
    async with supervised(paths, make_spec("step", line, step=True, environment=lambda: {"MINE": "yes"})):
        await wait_for(paths, "step", lambda state: state.status is PartStatus.DONE)

    assert paths.log("step").read_text() == "None 1 yes\n"


def test_there_is_one_supervisor_per_fleet(paths: FleetPaths) -> None:
    with suppress(FileNotFoundError):
        paths.fleet.unlink()
    held = acquire_lock(paths)

    assert held is not None
    assert acquire_lock(paths) is None
    held.close()
    again = acquire_lock(paths)
    assert again is not None
    again.close()


def test_a_dead_supervisor_is_not_running(paths: FleetPaths) -> None:
    assert running_supervisor(paths) is None
    died = {"generation": 1, "supervisor": {"pid": os.getpid(), "born": "another boot:1"}, "parts": {}}
    paths.fleet.write_text(json.dumps(died))

    assert running_supervisor(paths) is None


def test_a_truncated_state_file_is_a_fleet_that_never_ran(paths: FleetPaths) -> None:
    paths.fleet.write_text('{"generation": 1, "sup')

    assert read_state(paths).parts == {}


def test_the_last_lines_of_a_log_are_returned(paths: FleetPaths) -> None:
    paths.log("redis").write_text("".join(f"line {n}\n" for n in range(5000)))

    assert last_lines(paths.log("redis"), 2) == ["line 4998", "line 4999"]
    assert last_lines(paths.log("none"), 2) == []


async def never() -> bool:
    return False


def test_waiting_for_no_process_returns_at_once() -> None:
    assert wait_until_ended([], 0)
