"""The load generator: HTTP/1.1 on one core, closed loop or at a fixed rate, aware of streams.

No generator in a package index does all three at little cost: see docs/benchmarks.md. The parser is httptools', the
loop is uvloop's. Run it with a plan as JSON: python -m tests.load.generate '{"port": 8080, …}'. It prints JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop

from tests.load.connection import Answer, Connection
from tests.load.figures import spread
from tests.load.machine import allow_many_files

CONNECT_TIMEOUT_SECONDS = 30.0
_AGAIN_SECONDS = 0.05
_AHEAD_SECONDS = 0.002
_NAP_SECONDS = 20e-6


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests to send."""

    port: int
    path: str
    body: str
    """The file that holds the body."""
    keys: tuple[str, ...] = ()
    """API keys, used in turn; or `@<file>` with one key per line."""
    connections: int = 32
    seconds: float = 10.0
    rate: float = 0.0
    """Requests per second, on a schedule; 0 is a closed loop: each connection sends after each response."""
    requests: int = 0
    """Stop after this many requests; 0 is unlimited."""
    streamed: bool = False
    hold: bool = False
    """Send one request per connection, at `rate`, report, and hold the streams until standard input closes."""


class Load:
    """Executes a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._requests = cycle(_requests(plan))
        self._idle: deque[Connection] = deque()
        self._late: deque[float] = deque()
        self._answers: list[Answer] = []
        self._problems: Counter[str] = Counter()
        self._asked = self._busy = 0
        self._began = self._until = 0.0
        self._over = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()
        self._connections: list[Connection] = []

    async def run(self) -> dict[str, Any]:
        """Send all requests, wait for the responses, and return the figures."""
        await asyncio.gather(*(self._open() for _ in range(self._plan.connections)))
        if not self._idle:
            raise SystemExit(f"generate: no server answers on port {self._plan.port}")
        self._began = monotonic()
        self._until = self._began + self._plan.seconds
        cpu = time.process_time()
        if self._plan.rate:
            await self._by_schedule()
        else:
            while self._idle and self._more():
                self._ask(self._idle.popleft(), monotonic())
        if self._plan.hold:
            await self._hold()
        elif self._busy or self._late:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._plan.seconds + CONNECT_TIMEOUT_SECONDS)
        figures = self._figures()
        await self._leave()
        return figures | {"cpu_seconds": round(time.process_time() - cpu, 3)}

    async def _open(self) -> None:
        """Connect, with retries while the load lasts."""
        while True:
            with suppress(OSError):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._finished), "127.0.0.1", self._plan.port
                )
                self._connections.append(connection)
                return self._free(connection)
            if not self._more():
                return self._see_whether_over()
            await asyncio.sleep(_AGAIN_SECONDS)

    def _see_whether_over(self) -> None:
        if not self._busy and not self._late and not self._more():
            self._over.set()

    async def _leave(self) -> None:
        await asyncio.gather(*self._opening)
        for connection in self._connections:
            connection.abort()
        await asyncio.sleep(0)  # sockets close in the next iteration of the loop

    def _more(self) -> bool:
        return monotonic() < self._until and not (self._plan.requests and self._asked >= self._plan.requests)

    def _ask(self, connection: Connection, due: float) -> None:
        self._asked += 1
        self._busy += 1
        connection.ask(next(self._requests), due, streamed=self._plan.streamed)

    def _finished(self, connection: Connection, answer: Answer) -> None:
        self._busy -= 1
        if answer.problem:
            self._problems[answer.problem[:300]] += 1
        else:
            self._answers.append(answer)
        if connection.usable:
            self._free(connection)
        elif connection in self._connections:
            self._connections.remove(connection)
            task = self._loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        self._see_whether_over()

    def _free(self, connection: Connection) -> None:
        """Send the next request on a connection, or queue it."""
        if self._plan.hold or not self._began:
            self._idle.append(connection)
        elif self._plan.rate:
            if self._late:
                self._ask(connection, self._late.popleft())
            else:
                self._idle.append(connection)
        elif self._more():
            self._ask(connection, monotonic())

    async def _by_schedule(self) -> None:
        total = self._plan.requests or int(self._plan.rate * self._plan.seconds)
        for number in range(total):
            due = self._began + number / self._plan.rate
            await _until(due)
            if self._idle:
                self._ask(self._idle.popleft(), due)
            else:
                self._late.append(due)
        self._until = min(self._until, monotonic())

    async def _hold(self) -> None:
        """Wait until every stream has its first event, report it, and wait for the end of standard input."""
        deadline = monotonic() + CONNECT_TIMEOUT_SECONDS
        while monotonic() < deadline and self._held() + self._problems.total() < self._asked:
            await asyncio.sleep(0.05)
        print(json.dumps({"held": self._held(), "errors": self._problems.total()}), flush=True)
        released = asyncio.Event()
        self._loop.add_reader(sys.stdin.fileno(), released.set)
        await released.wait()

    def _held(self) -> int:
        return sum(bool(c.answer and c.answer.events) for c in self._connections)

    def _figures(self) -> dict[str, Any]:
        unanswered = self._busy + len(self._late)
        if unanswered and not self._plan.hold:
            self._problems["no answer"] += unanswered
        ended = max((a.ended for a in self._answers), default=self._began)
        took = (min(ended, self._until) if not self._plan.streamed else ended) - self._began or 1e-9
        in_time = sum(a.ended <= self._began + took for a in self._answers)
        figures: dict[str, Any] = {
            "answers": len(self._answers),
            "errors": self._problems.total(),
            "problems": dict(self._problems.most_common(3)),
            "seconds": round(took, 3),
            "per_second": round(in_time / took, 1),
            **spread([a.ended - a.due for a in self._answers], "latency", (50, 90, 99, 100)),
        }
        if self._plan.streamed:
            events = sum(a.events for a in self._answers)
            figures |= {
                "chunks": events,
                "chunks_per_second": round(events / took, 1),
                **spread([a.first - a.due for a in self._answers], "first", (50, 99)),
                **spread([gap for a in self._answers for gap in a.gaps], "gap", (50, 99)),
            }
        return figures


async def _until(due: float) -> None:
    """Sleep until a time, more precisely than the loop's timers with their milliseconds."""
    if (left := due - monotonic()) > _AHEAD_SECONDS:
        await asyncio.sleep(left - _AHEAD_SECONDS)
    while monotonic() < due:
        await asyncio.sleep(0)  # lets the loop read responses
        time.sleep(_NAP_SECONDS)  # yields the core


def _requests(plan: Plan) -> list[tuple[bytes, bytes]]:
    body = Path(plan.body).read_bytes()
    keys = plan.keys
    if len(keys) == 1 and keys[0].startswith("@"):
        keys = tuple(Path(keys[0][1:]).read_text().split())
    head = (
        f"POST {plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
    )
    return [(f"{head}authorization: Bearer {key}\r\n\r\n".encode(), body) for key in keys or ("none",)]


def write(plan: Plan) -> str:
    """Serialize a plan for this program's command line."""
    return json.dumps(asdict(plan))


async def main() -> None:
    """Run the plan of the command line and print the figures."""
    plan = json.loads(sys.argv[1])
    allow_many_files()
    print(json.dumps(await Load(Plan(**plan | {"keys": tuple(plan.get("keys", ()))})).run()), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
