"""The same method by the exchange and by grpc.aio: calls per second of CPU, client and server together.

    python -m tests.load.exchange [--seconds 2] [--in-flight 1 8 32 128]

Both ends share one core where there are two, as the fleet's services do in the bench. The method echoes 2 KB, through
the whole pipeline of a service: principal, deadline, metrics.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import uvloop
from chassis.clock import SystemClock
from chassis.grpc import Channel, GrpcServer
from chassis.telemetry.logs import configure_logs
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_verifier
from chassis.testing.grpc_aio import GrpcAioChannel

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text
from tests.load.machine import SUBJECT, can_pin, pin

WORDS = "x" * 2_000


class MinimalEchoService(EchoService):
    """Returns the request, and records nothing."""

    async def log(self, request: Any, context: Any) -> Any:
        return request


async def serve() -> None:
    """Serve on a free port, print it, and run until killed."""
    server = GrpcServer("127.0.0.1:0", [(register, MinimalEchoService(), SERVICE)], a_verifier(), SystemClock())
    await server.start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@contextlib.contextmanager
def server_process() -> Iterator[tuple[psutil.Process, int]]:
    """Run the server in a separate process; yield the process and its port."""
    command = [sys.executable, "-m", "tests.load.exchange", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield psutil.Process(process.pid), int(process.stdout.readline())
        finally:
            process.kill()


def cpu_seconds(*processes: psutil.Process) -> float:
    """The CPU seconds that the processes have used."""
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


async def measure(
    kind: type[Channel] | type[GrpcAioChannel], port: int, in_flight: int, seconds: float, both: list[psutil.Process]
) -> tuple[float, float]:
    """Call for some seconds; return calls per second, and CPU per call in microseconds."""
    async with kind(f"127.0.0.1:{port}", "parrot") as channel:
        stub, request = EchoStub(channel), text(WORDS)
        with as_caller(a_caller()):
            await asyncio.gather(*(stub.Echo(request) for _ in range(200)))
            done, end = [0] * in_flight, time.perf_counter() + seconds

            async def caller(place: int) -> None:
                while time.perf_counter() < end:
                    await stub.Echo(request)
                    done[place] += 1

            before, began = cpu_seconds(*both), time.perf_counter()
            await asyncio.gather(*(caller(place) for place in range(in_flight)))
            used, took = cpu_seconds(*both) - before, time.perf_counter() - began
    return sum(done) / took, used / sum(done) * 1e6


async def compare(seconds: float, in_flight: list[int]) -> None:
    """Print a row per number of calls in flight."""
    with server_process() as (server, port):
        both = [server, psutil.Process()]
        if can_pin():
            for process in both:
                pin(process.pid, SUBJECT)
        sys.stdout.write("in flight   grpc_aio calls/s  µs CPU/call   exchange calls/s  µs CPU/call   ratio\n")
        for count in in_flight:
            grpc_aio = await measure(GrpcAioChannel, port, count, seconds, both)
            exchange = await measure(Channel, port, count, seconds, both)
            sys.stdout.write(
                f"{count:9}   {grpc_aio[0]:16,.0f}  {grpc_aio[1]:11.1f}   {exchange[0]:16,.0f}  {exchange[1]:11.1f}"
                f"   {grpc_aio[1] / exchange[1]:4.1f}x\n"
            )
            sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each measurement takes")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 32, 128], help="calls at once")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logs("warning", "exchange-bench", "stderr")
    uvloop.run(serve() if arguments.serve else compare(arguments.seconds, arguments.in_flight))


if __name__ == "__main__":
    main()
