"""The replicas behind a name: one open stream to each, and the least loaded one for the next call."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final

import grpc

from rpc.client_stream import ClientStream, VersionMismatch
from rpc.wire import Log

# Names are resolved again this often: a new replica gets calls within this time.
RESOLVE_INTERVAL_SECONDS: Final = 5.0
# Bounds of the pause before a stream is opened again, with full jitter.
MIN_RETRY_SECONDS: Final = 0.05
MAX_RETRY_SECONDS: Final = 1.0

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""From "host:port" to the addresses behind it, each "address:port". Raises `OSError` when the name is unknown."""


async def resolve(target: str) -> Sequence[str]:
    """Resolve a name by DNS."""
    host, _, port = target.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return [f"[{entry[4][0]}]:{port}" if ":" in str(entry[4][0]) else f"{entry[4][0]}:{port}" for entry in found]


class Replicas:
    """Streams to all replicas behind `target`, which is "host:port" or several separated by commas."""

    def __init__(
        self,
        target: str,
        name: str,
        *,
        options: Sequence[tuple[str, Any]],
        resolver: Resolver,
        on_open: Callable[[], None],
        log: Log,
    ) -> None:
        """`on_open` is called whenever a stream has opened."""
        self._targets = [part.strip() for part in target.split(",")]
        self._name = name
        self._options = options
        self._resolver = resolver
        self._on_open = on_open
        self._log = log
        self._streams: list[ClientStream] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stream_by_address: dict[str, ClientStream] = {}
        self._addresses: set[str] = set()
        self._next_index = 0
        self._resolve_now = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to resolve the names and to open streams."""
        self._watcher = asyncio.create_task(self._watch_endpoints())

    async def stop(self) -> None:
        """Close all streams; calls on them fail."""
        tasks = [*self._tasks.values(), *([self._watcher] if self._watcher is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def ready(self) -> bool:
        """Whether a call could start now."""
        for stream in self._streams:  # noqa: SIM110 - runs in each call, and a generator would cost more
            if stream.has_capacity:
                return True
        return False

    @property
    def at_capacity(self) -> bool:
        """Whether there are open streams, all of them full."""
        return any(stream.open for stream in self._streams) and not self.ready

    def pick(self) -> ClientStream | None:
        """Return the stream with the fewest calls in flight; streams with equally many take turns."""
        streams = self._streams
        if len(streams) == 1:
            return streams[0] if streams[0].has_capacity else None
        self._next_index += 1
        best: ClientStream | None = None
        for offset in range(len(streams)):
            stream = streams[(self._next_index + offset) % len(streams)]
            if stream.has_capacity and (best is None or stream.load < best.load):
                best = stream
        return best

    async def _watch_endpoints(self) -> None:
        while True:
            addresses = await self._resolve()
            if addresses is not None:
                self._update(addresses)
            self._resolve_now.clear()
            try:
                async with asyncio.timeout(RESOLVE_INTERVAL_SECONDS):
                    await self._resolve_now.wait()
                # A stream was lost and its replica may be gone for good. The pause keeps a flapping peer from causing
                # a flood of DNS queries.
                await asyncio.sleep(MIN_RETRY_SECONDS)
            except TimeoutError:
                continue

    async def _resolve(self) -> set[str] | None:
        """Return the addresses behind the names; None when a name is unknown now, so the last addresses stay."""
        found: set[str] = set()
        for target in self._targets:
            try:
                found.update(await self._resolver(target))
            except (OSError, ValueError) as error:
                self._log.warning("exchange_resolve_failed", peer=self._name, target=target, error=str(error))
                return None
        return found

    def _update(self, addresses: set[str]) -> None:
        self._addresses = addresses
        for address in addresses & self._stream_by_address.keys():
            if self._stream_by_address[address].resume():
                self._on_open()
        for address in addresses - self._tasks.keys():
            self._tasks[address] = asyncio.create_task(self._keep_connected(address))
        for address in self._tasks.keys() - addresses:
            # A replica that has left DNS takes no new calls; its calls in flight may end.
            stream = self._stream_by_address.get(address)
            if stream is not None:
                stream.drain()

    async def _keep_connected(self, address: str) -> None:
        failures = 0
        try:
            async with grpc.aio.insecure_channel(address, options=self._options) as channel:
                while address in self._addresses:
                    lasted = await self._run_stream(ClientStream(channel, self._log), address)
                    self._resolve_now.set()
                    failures = 0 if lasted else failures
                    bound = min(MAX_RETRY_SECONDS, MIN_RETRY_SECONDS * 2.0 ** min(failures, 32))
                    failures += 1
                    await asyncio.sleep(random.uniform(0.0, bound))  # noqa: S311 - jitter
        finally:
            self._tasks.pop(address, None)

    async def _run_stream(self, stream: ClientStream, address: str) -> bool:
        """Open a stream and carry calls until it ends; returns whether it lasted.

        One that ends at once does not count as a success, so a peer that accepts streams and drops them is not
        reconnected to twenty times a second.
        """
        try:
            await stream.connect()
        except VersionMismatch as error:
            self._log.warning("exchange_version_mismatch", peer=self._name, address=address, reason=str(error))
            return False
        except (OSError, TimeoutError):
            return False
        opened_at = monotonic()
        self._streams.append(stream)
        self._stream_by_address[address] = stream
        self._log.debug("exchange_opened", peer=self._name, address=address)
        try:
            self._on_open()
            await stream.run()
        finally:
            self._streams.remove(stream)
            del self._stream_by_address[address]
            self._log.debug("exchange_closed", peer=self._name, address=address)
        return monotonic() - opened_at > MAX_RETRY_SECONDS
