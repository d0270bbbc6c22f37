"""The supervisor restarts a part that no longer answers."""

from __future__ import annotations

import asyncio
import io
import os
import signal

import pytest
from argosy_dev.commands.status import status
from argosy_dev.fleet import process as process_module
from argosy_dev.fleet import readiness
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.ports import LOOPBACK, assign
from argosy_dev.fleet.process_identity import ProcessIdentity
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import FleetState, PartStatus, read_state
from rich.console import Console

from dev.tests.supervised import MakeSpec, alive, supervised, wait_for

ANSWERS = """if True:
    import socket, sys, time
    time.sleep({start})
    server = socket.create_server(("127.0.0.1", {port}))
    while True:
        connection, _ = server.accept()
        connection.sendall(b"+PONG")
        connection.close()
"""


@pytest.fixture
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_WATCH_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(readiness, "_TIMEOUT_SECONDS", 0.5)


def answering(make_spec: MakeSpec, *, start: float = 0, hang_seconds: float = 2) -> ProcessSpec:
    """A part that answers its probe, from `start` seconds after its start."""
    port = assign(["redis"], {})["redis"]
    probe = readiness.redis(LOOPBACK, port)
    return make_spec("redis", ANSWERS.format(start=start, port=port), probe=probe, hang_seconds=hang_seconds)


@pytest.mark.usefixtures("quick_watch")
async def test_a_part_that_hangs_is_restarted_and_says_why(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, answering(make_spec)):
        victim = alive(await wait_for(paths, "redis", lambda state: state.status is PartStatus.READY))

        victim.send(signal.SIGSTOP)
        silent = await wait_for(paths, "redis", lambda state: state.detail.startswith("has not answered for"))
        state = await wait_for(paths, "redis", lambda e: e.status is PartStatus.READY and e.process != victim)

        assert silent.process == victim
        assert not victim.alive()
        assert state.restarts == 1
        assert state.restart_reason.startswith("has not answered for")


@pytest.mark.usefixtures("quick_watch")
async def test_a_part_that_freezes_for_less_than_the_limit_runs_on(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, answering(make_spec, hang_seconds=30)):
        frozen = alive(await wait_for(paths, "redis", lambda state: state.status is PartStatus.READY))

        frozen.send(signal.SIGSTOP)
        await wait_for(paths, "redis", lambda state: bool(state.detail))
        frozen.send(signal.SIGCONT)
        state = await wait_for(paths, "redis", lambda state: not state.detail)

        assert (state.process, state.restarts) == (frozen, 0)


@pytest.mark.usefixtures("quick_watch")
async def test_a_slow_start_is_no_hang(paths: FleetPaths, make_spec: MakeSpec) -> None:
    async with supervised(paths, answering(make_spec, start=2.5, hang_seconds=2)):
        state = await wait_for(paths, "redis", lambda state: state.status is PartStatus.READY)

        assert state.restarts == 0


@pytest.mark.usefixtures("quick_watch")
async def test_a_part_that_answers_and_is_not_ready_runs_on(paths: FleetPaths, make_spec: MakeSpec) -> None:
    ready = [True]

    async def probe() -> bool:
        return ready[0]

    async def answers() -> bool:
        return True

    async with supervised(paths, make_spec("gateway", probe=probe, alive=answers, hang_seconds=0.1)):
        await wait_for(paths, "gateway", lambda state: state.status is PartStatus.READY)
        ready[0] = False
        await asyncio.sleep(0.5)

        state = read_state(paths).parts["gateway"]
        assert (state.status, state.restarts, state.detail) == (PartStatus.READY, 0, "")


def test_the_status_says_why_a_part_was_restarted(paths: FleetPaths) -> None:
    asyncio.run(_write_restarted(paths))
    console = Console(record=True, width=80, file=io.StringIO())

    status(paths, console)

    assert "redis was restarted: it has not answered for 31 s." in console.export_text()


async def _write_restarted(paths: FleetPaths) -> None:
    own = ProcessIdentity.of(os.getpid())
    state = FleetState(paths, own, ["redis"])
    await state.update(
        "redis", status=PartStatus.READY, process=own, restarts=1, restart_reason="has not answered for 31 s"
    )
