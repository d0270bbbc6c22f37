"""The replicas behind a name: one stream to each, kept open, and the least loaded one for the next call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final

import grpc

from chassis.backoff import Backoff
from chassis.grpc.exchange.stream import OtherVersion, Stream
from chassis.telemetry import logger

# How often a name is looked up again: a replica that appears gets its share of the calls within this, or soon after.
LOOK_UP_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0

log = logger("chassis.grpc")

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""From "host:port" to the addresses behind it, each "address:port". Raises `OSError` when nobody knows."""


async def resolve(target: str) -> Sequence[str]:
    """Look a name up in DNS."""
    host, _, port = target.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return [f"[{entry[4][0]}]:{port}" if ":" in str(entry[4][0]) else f"{entry[4][0]}:{port}" for entry in found]


class Replicas:
    """Streams to all replicas behind `target`, which is "host:port" or several of them with commas between."""

    def __init__(
        self, target: str, name: str, options: Sequence[tuple[str, Any]], on_open: Callable[[], None], look_up: Resolve
    ) -> None:
        """`on_open` is called whenever a stream has opened."""
        self._targets = [part.strip() for part in target.split(",")]
        self._name = name
        self._options = options
        self._on_open = on_open
        self._look_up = look_up
        self._streams: list[Stream] = []
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._current: dict[str, Stream] = {}
        self._wanted: set[str] = set()
        self._turn = 0
        self._look_again = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for replicas and to open streams."""
        self._watch = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Close all streams; calls on them fail."""
        tasks = [*self._keepers.values(), *([self._watch] if self._watch is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keepers.clear()

    @property
    def ready(self) -> bool:
        """Whether a call could begin now."""
        for stream in self._streams:  # noqa: SIM110 - each call looks, and a generator costs more than that
            if stream.has_room:
                return True
        return False

    @property
    def full(self) -> bool:
        """Whether there are streams, all with as many calls as they carry."""
        return any(stream.open for stream in self._streams) and not self.ready

    def choose(self) -> Stream | None:
        """Return the stream with the fewest calls in flight; among equals they take turns."""
        streams = self._streams
        if len(streams) == 1:
            return streams[0] if streams[0].has_room else None
        self._turn += 1
        best: Stream | None = None
        for place in range(len(streams)):
            stream = streams[(self._turn + place) % len(streams)]
            if stream.has_room and (best is None or stream.load < best.load):
                best = stream
        return best

    async def _follow(self) -> None:
        while True:
            known = await self._addresses()
            if known is not None:
                self._keep(known)
            self._look_again.clear()
            try:
                async with asyncio.timeout(LOOK_UP_SECONDS):
                    await self._look_again.wait()
                # A stream broke. Its replica may be gone for good; but not everybody may ask at once, or all the time.
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
            except TimeoutError:
                continue

    async def _addresses(self) -> set[str] | None:
        """Return what is behind the names; None when nobody knows, for then what was known still holds."""
        found: set[str] = set()
        for target in self._targets:
            try:
                found.update(await self._look_up(target))
            except (OSError, ValueError) as error:
                log.warning("exchange_name_unknown", peer=self._name, target=target, error=str(error))
                return None
        return found

    def _keep(self, addresses: set[str]) -> None:
        self._wanted = addresses
        for address in addresses & self._current.keys():
            if self._current[address].resume():
                self._on_open()
        for address in addresses - self._keepers.keys():
            keeper = asyncio.create_task(self._keep_open(address))
            self._keepers[address] = keeper
        for address in self._keepers.keys() - addresses:
            # Out of DNS means that it takes nothing new; what it has at hand may end.
            stream = self._current.get(address)
            if stream is not None:
                stream.drain()

    async def _keep_open(self, address: str) -> None:
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        try:
            async with grpc.aio.insecure_channel(address, options=self._options) as channel:
                while address in self._wanted:
                    await self._carry(Stream(channel), address, backoff)
                    self._look_again.set()
                    await asyncio.sleep(backoff.next())
        finally:
            self._keepers.pop(address, None)

    async def _carry(self, stream: Stream, address: str, backoff: Backoff) -> None:
        try:
            await stream.connect()
        except OtherVersion as error:
            log.warning("exchange_refused", peer=self._name, address=address, reason=str(error))
            return
        except (OSError, TimeoutError):
            return
        opened_at = monotonic()
        self._streams.append(stream)
        self._current[address] = stream
        log.debug("exchange_opened", peer=self._name, address=address)
        try:
            self._on_open()
            await stream.run()
        finally:
            # Not at once: a peer that takes streams and drops them is not to be asked twenty times a second.
            if monotonic() - opened_at > LONGEST_PAUSE_SECONDS:
                backoff.reset()
            self._streams.remove(stream)
            del self._current[address]
            log.debug("exchange_ended", peer=self._name, address=address)
