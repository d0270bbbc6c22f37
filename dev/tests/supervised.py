"""Runs a supervisor with parts of a test, and waits for their states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.process_identity import ProcessIdentity
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import PartState, read_state
from argosy_dev.fleet.supervisor import DesiredState, Supervisor

MakeSpec = Callable[..., ProcessSpec]


@asynccontextmanager
async def supervised(paths: FleetPaths, *parts: ProcessSpec) -> AsyncIterator[Supervisor]:
    """Run a supervisor with these parts, and stop it at the end as SIGTERM does."""
    DesiredState(1, tuple(part.name for part in parts)).write(paths)
    supervisor = Supervisor(paths, {part.name: part for part in parts})
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.request_stop()
        await task


async def wait_for(
    paths: FleetPaths, name: str, condition: Callable[[PartState], bool], seconds: float = 60.0
) -> PartState:
    """Wait until the state file meets the condition, as `up` does."""
    async with asyncio.timeout(seconds):
        while True:
            state = read_state(paths).parts.get(name)
            if state and condition(state):
                return state
            await asyncio.sleep(0.01)


def alive(state: PartState) -> ProcessIdentity:
    assert state.process
    assert state.process.alive()
    return state.process
