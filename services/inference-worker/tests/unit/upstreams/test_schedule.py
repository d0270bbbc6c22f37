"""One call at a time waits for changes; without the orchestrator the last snapshot stays."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from inference_worker.providers.ports import Upstream
from inference_worker.token_counting.model import NullTokenCounter
from inference_worker.upstreams.live import LiveUpstreams
from inference_worker.upstreams.model import UpstreamDocument, UpstreamSnapshot
from inference_worker.upstreams.schedule import UpstreamWatch


class FakeSource:
    """Implements `UpstreamSource`: gives what a test puts, and raises exceptions."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[UpstreamSnapshot | Exception | None] = asyncio.Queue()
        self.known: list[int | None] = []
        self.asked = asyncio.Event()

    async def wait_newer(self, known_version: int | None) -> UpstreamSnapshot | None:
        self.known.append(known_version)
        self.asked.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def open_anything(declared: UpstreamDocument, stack: AsyncExitStack) -> Upstream:
    return Upstream(NullTokenCounter())


@pytest.fixture
def live() -> LiveUpstreams:
    return LiveUpstreams({}, open_anything, lambda _: None)


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def snapshot(version: int) -> UpstreamSnapshot:
    return UpstreamSnapshot(version, (UpstreamDocument("a", {"version": version}),), ())


async def test_each_call_names_the_version_that_is_known(source: FakeSource, live: LiveUpstreams) -> None:
    watch = UpstreamWatch(source, live)
    for answer in (snapshot(3), None, snapshot(5)):
        source.answers.put_nowait(answer)
        assert await watch.poll()

    assert source.known == [None, 3, 3]
    assert live.version == 5


@pytest.mark.parametrize("error", [Unavailable("the orchestrator does not answer"), RuntimeError("sk-secret")])
async def test_without_the_orchestrator_the_last_snapshot_stays(
    source: FakeSource, live: LiveUpstreams, error: Exception
) -> None:
    watch = UpstreamWatch(source, live)
    source.answers.put_nowait(snapshot(3))
    await watch.poll()
    source.answers.put_nowait(error)

    assert not await watch.poll()

    assert (live.version, set(live)) == (3, {"a"})


async def test_at_rest_one_call_waits_and_a_stop_ends_it(source: FakeSource, live: LiveUpstreams) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(UpstreamWatch(source, live, timedelta(milliseconds=1)).run(stop))
    await source.asked.wait()
    source.asked.clear()
    source.answers.put_nowait(Unavailable("away"))
    await source.asked.wait()
    source.asked.clear()
    source.answers.put_nowait(snapshot(1))
    await source.asked.wait()

    assert source.known == [None, None, 1]
    stop.set()
    async with asyncio.timeout(30):
        await running
    assert live.version == 1
