"""Whatever happens to calls, connections and replicas: each call ends once, with its own answer or a known failure.

`ARGOSY_EXCHANGE_EXAMPLES` sets how many scripts are tried; chaos tries many.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from chassis.clock import SystemClock
from chassis.grpc import Channel, GrpcServer
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_verifier
from chassis.testing.network import TcpProxy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.rpc.tests.leaks import held, until_back_to
from libs.rpc.tests.load_generator import SERVICE, SHAPES, Callers, LoadGenerator, Plan, register

EXAMPLES = int(os.environ.get("ARGOSY_EXCHANGE_EXAMPLES", "30"))

plans = st.builds(
    Plan,
    st.sampled_from(list(SHAPES)),
    st.integers(0, 60),
    st.sampled_from(["whole", "whole", "slow", "cancel", "leave", "hurry"]),
)
troubles = st.sampled_from(["cut", "freeze", "drain", "kill", "nothing"])
steps = st.tuples(st.lists(plans, max_size=12), troubles, st.integers(0, 1), st.integers(0, 20))


class Replica:
    """One of two replicas, each behind a proxy, on a port that stays the same."""

    def __init__(self, generator: LoadGenerator) -> None:
        self._generator = generator
        self._bind = "127.0.0.1:0"
        self.proxy = TcpProxy(0)

    async def start(self, grace_seconds: float = 60.0) -> None:
        grace = timedelta(seconds=grace_seconds)
        self.server = GrpcServer(self._bind, [(register, self._generator, SERVICE)], a_verifier(), SystemClock(), grace)
        await self.server.start()
        self._bind = f"127.0.0.1:{self.server.port}"
        self.proxy._target_port = self.server.port
        await self.proxy.mend()

    async def suffer(self, trouble: str, pause: float) -> None:
        """Let it happen, and mend it."""
        match trouble:
            case "cut":
                await self.proxy.cut()
                await asyncio.sleep(pause)
                await self.proxy.mend()
            case "freeze":
                self.proxy.freeze()
                await asyncio.sleep(pause)
                await self.proxy.mend()
            case "drain":
                await self.server.stop()
                await self.start()
            case "kill":
                await self.proxy.cut()
                await self.server.stop()
                await self.start()

    async def stop(self) -> None:
        await self.proxy.mend()
        await self.server.stop()
        await self.proxy.cut()


Script = list[tuple[list[Plan], str, int, int]]


async def play(script: Script) -> None:
    generator = LoadGenerator()
    replicas = [Replica(generator) for _ in range(2)]
    await asyncio.gather(*(replica.start() for replica in replicas))
    target = ",".join(f"127.0.0.1:{replica.proxy.port}" for replica in replicas)
    async with Channel(target, "the crowd") as channel:
        callers = Callers(channel, may_break=any(trouble in {"cut", "kill"} for _, trouble, _, _ in script))
        made: list[asyncio.Task[None]] = []
        with as_caller(a_caller()):
            await channel.channel_ready()
            for plans, trouble, place, pause in script:
                first = len(made)
                made += [
                    asyncio.create_task(callers.make(f"t{first + number}", plan)) for number, plan in enumerate(plans)
                ]
                await asyncio.sleep(pause / 1000)
                await replicas[place].suffer(trouble, pause / 1000)
            async with asyncio.timeout(30):
                await asyncio.gather(*made)
            # And whatever was done to it, it works again.
            await channel.channel_ready()
            after = [
                callers.make(f"t{len(made) + number}", Plan(shape, 3, "whole")) for number, shape in enumerate(SHAPES)
            ]
            await asyncio.gather(*after)
        assert not channel._unassigned
        assert not any(stream.calls for stream in channel._replicas._streams)
        assert not any(channel.deadlines._buckets.values())
    await asyncio.gather(*(replica.stop() for replica in replicas))

    assert callers.wrong == []
    assert callers.endings == once_each(len(made) + len(SHAPES))
    assert all(times == 1 for tag, times in generator.begun.items() if tag)


def once_each(count: int) -> dict[str, int]:
    return {f"t{number}": 1 for number in range(count)}


async def play_and_count(script: Script) -> None:
    before = held()
    await play(script)
    await until_back_to(before)


@given(script=st.lists(steps, min_size=1, max_size=5))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_every_call_ends_once_with_its_own_data_and_leaks_nothing(script: Script) -> None:
    asyncio.run(play_and_count(script))
