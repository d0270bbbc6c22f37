"""Shares circuits among replicas. Calls never wait for it: it runs beside them, and without it each replica is alone.

Messages hold the seconds that are left, never a time: clocks of replicas have nothing in common.
"""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

import orjson
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import ALL_TENANTS, Counts
from inference_worker.breakers.model import CircuitKey, CircuitState
from inference_worker.breakers.ports import CircuitExchange

POLL_SECONDS: Final = 0.05
"""Between two looks for circuits that want a probe, while some are open, and between two messages of mere counts."""
IDLE_SECONDS: Final = 1.0
MAX_MESSAGES: Final = 1000
"""That wait to be sent; the oldest are dropped."""
MAX_COUNTED: Final = 1000
"""Failures in one message of another replica."""

log = logger(__name__)


class CircuitSharing:
    """`run` is the body of a loop, `receive` takes what other replicas publish."""

    def __init__(self, circuits: Circuits, exchange: CircuitExchange, replica: str, now: Callable[[], float]) -> None:
        """`replica` is this one's id; `now` the monotonic clock of its circuits."""
        self._circuits = circuits
        self._exchange = exchange
        self._replica = replica
        self._now = now
        self._open: set[CircuitKey] = set()
        self._claimed: set[CircuitKey] = set()
        self._unsent: dict[CircuitKey, bool] = {}
        self._uncounted: set[CircuitKey] = set()
        self._counted_at = -inf
        self._asks = True
        self._wake = asyncio.Event()
        self._failure_log = RateLimitedLog(log)
        circuits.listen(self._changed)
        circuits.on_count = self._counted

    async def run(self, stop: asyncio.Event) -> None:
        """Send what changed and ask for probes, until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait(
                    {waking, stopping}, timeout=self.pause_seconds(), return_when=asyncio.FIRST_COMPLETED
                )
                waking.cancel()
                await self.exchange()
        finally:
            stopping.cancel()
            self._circuits.share(False)

    def pause_seconds(self) -> float:
        """Return the time until the next exchange. Later probes of a circuit that no call asked for need no consent."""
        until = self._now() - self._circuits.policy.grant_timeout
        if self._uncounted or any(self._circuits.circuit(*key).open_until > until for key in self._open):
            return POLL_SECONDS
        return IDLE_SECONDS

    async def exchange(self) -> None:
        """Send what is unsent, and claim the probes that are wanted. Without the others, go on alone."""
        self._wake.clear()
        try:
            await self._send()
            self._circuits.share(True)
            await self._claim()
        except ArgosyError as error:
            self._circuits.share(False)
            self._unsent.clear()
            self._claimed.clear()
            self._take_counts()
            # What is open is told again when the others are back.
            self._asks = True
            self._failure_log.warning("circuits_not_shared", key=error.reason, error=error.message)

    async def connected(self) -> None:
        """Ask the others for what is open, and tell them: messages may have been missed."""
        for circuit in self._circuits:
            circuit.forget_row()
        self._asks = True
        self._wake.set()

    async def receive(self, message: bytes) -> None:
        """Put in force what another replica found. What cannot be read is left out."""
        try:
            found = orjson.loads(message)
            if found["replica"] == self._replica:
                return
            if found.get("asks"):
                self._tell_all()
            for one in found["circuits"]:
                self._apply(one)
            for one in found.get("counts", ()):
                self._count(one)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._failure_log.warning("circuits_message_unreadable", key="unreadable", error=type(error).__name__)

    def _changed(self, circuit: Circuit) -> None:
        key = circuit.key
        closed = circuit.state is CircuitState.CLOSED and key in self._open
        if circuit.state is CircuitState.CLOSED:
            self._open.discard(key)
        else:
            self._open.add(key)
        self._note(key, closed=closed)

    def _counted(self, circuit: Circuit) -> None:
        if len(self._uncounted) < MAX_MESSAGES:
            self._uncounted.add(circuit.key)
        if self._now() >= self._counted_at + POLL_SECONDS:
            self._wake.set()

    def _note(self, key: CircuitKey, *, closed: bool) -> None:
        if len(self._unsent) >= MAX_MESSAGES:
            self._unsent.pop(next(iter(self._unsent)))
        self._unsent[key] = closed or self._unsent.get(key, False)
        self._wake.set()

    def _tell_all(self) -> None:
        now = self._now()
        for circuit in self._circuits:
            if circuit.state is not CircuitState.CLOSED or circuit.block(now, ALL_TENANTS) is not None:
                self._note(circuit.key, closed=False)

    async def _send(self) -> None:
        if self._asks:
            self._tell_all()
        unsent, self._unsent = self._unsent, {}
        for key in [one for one in unsent if one in self._claimed]:
            self._claimed.discard(key)
            await self._exchange.release(_name(key))
        message = {
            "replica": self._replica,
            "asks": self._asks,
            "circuits": [self._document(key, closed) for key, closed in unsent.items()],
            "counts": self._take_counts() if self._now() >= self._counted_at + POLL_SECONDS else [],
        }
        # The empty one shows whether the others can be reached.
        await self._exchange.publish(orjson.dumps(message))
        self._asks = False

    def _take_counts(self) -> list[dict[str, Any]]:
        if not self._uncounted:
            return []
        uncounted, self._uncounted = self._uncounted, set()
        self._counted_at = self._now()
        return [{"key": list(key), **self._circuits.circuit(*key).take_counts()._asdict()} for key in uncounted]

    def _count(self, one: dict[str, Any]) -> None:
        upstream, account, model = map(str, one["key"])
        failures, hung_for = min(MAX_COUNTED, int(one["failures"])), float(one["hung_for"])
        counts = Counts(failures, tuple(map(str, one["tenants"])), bool(one["answered"]), hung_for)
        self._circuits.circuit(upstream, account, model).receive(self._now(), counts)

    def _document(self, key: CircuitKey, closed: bool) -> dict[str, Any]:
        circuit, now = self._circuits.circuit(*key), self._now()
        is_open = circuit.state is not CircuitState.CLOSED
        return {
            "key": list(key),
            "closed": closed and not is_open,
            "open": max(0.0, circuit.open_until - now) if is_open else 0.0,
            "open_for": circuit.open_for,
            "limited": max(0.0, circuit.resting_until - now),
            "account": max(0.0, circuit.account.resting_until - now),
        }

    def _apply(self, one: dict[str, Any]) -> None:
        upstream, account, model = map(str, one["key"])
        circuit, now, policy = self._circuits.circuit(upstream, account, model), self._now(), self._circuits.policy
        seconds, limited, refused = (float(one[name]) for name in ("open", "limited", "account"))
        if one["closed"]:
            circuit.close(now, remotely=True)
            self._open.discard(circuit.key)
        if seconds > 0.0:
            circuit.open_remotely(now + min(seconds, policy.max_open_for), str(one.get("open_for", ALL_TENANTS)))
            self._open.add(circuit.key)
        if limited > 0.0:
            circuit.rest_remotely(now + min(limited, policy.max_rate_limit_rest))
        if refused > 0.0:
            circuit.account.rest(now + min(refused, policy.account_rest))

    async def _claim(self) -> None:
        """Claim the probes that calls have asked for."""
        for circuit in self._wanted():
            seconds = self._circuits.policy.probe_timeout
            if await self._exchange.claim(_name(circuit.key), seconds):
                self._claimed.add(circuit.key)
                circuit.granted_until = self._now() + seconds

    def _wanted(self) -> Sequence[Circuit]:
        now = self._now()
        circuits = [self._circuits.circuit(*key) for key in self._open]
        # Those that were forgotten, and so are closed.
        self._open -= {one.key for one in circuits if one.state is CircuitState.CLOSED}
        return [one for one in circuits if one.awaits_grant(now)]


def _name(key: CircuitKey) -> str:
    return orjson.dumps(list(key)).decode()
