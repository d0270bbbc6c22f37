"""What workers get of upstreams, in memory, and those that wait for a newer version of it."""

import asyncio
from contextlib import suppress

from orchestrator.upstreams.model import UpstreamSnapshot
from orchestrator.upstreams.ports import UpstreamReader


class UpstreamCache:
    """The snapshot as last read. It stays in force while the store is unavailable."""

    def __init__(self, store: UpstreamReader) -> None:
        self._store = store
        self._snapshot: UpstreamSnapshot | None = None
        self._changed = asyncio.Event()
        self._stopped = False

    def names(self) -> set[str]:
        """The upstreams that are declared by the API."""
        return set() if self._snapshot is None else {upstream.name for upstream in self._snapshot.upstreams}

    def capabilities(self) -> list[tuple[str, object]]:
        """What each of them says of its models."""
        upstreams = () if self._snapshot is None else self._snapshot.upstreams
        return [(upstream.name, upstream.document.get("capabilities")) for upstream in upstreams]

    async def refresh(self) -> bool:
        """Read the snapshot if it has changed; return whether it has. Raises Unavailable."""
        read = await self._store.read(None if self._snapshot is None else self._snapshot.version)
        # A read that was overtaken by a later one does not bring an older version back.
        if read is None or (self._snapshot is not None and read.version <= self._snapshot.version):
            return False
        self._snapshot = read
        self._wake()
        return True

    async def wait_newer(self, known_version: int | None, seconds: float) -> UpstreamSnapshot | None:
        """Wait for a version above the known one, at most this long. None when there is none, or after `stop`.

        A replica that is behind waits like one that has nothing new: it never returns an older version.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopped and self._newer(known_version) is None:
                    await self._changed.wait()
        return None if self._stopped else self._newer(known_version)

    def stop(self) -> None:
        """End all waits."""
        self._stopped = True
        self._wake()

    def _newer(self, known_version: int | None) -> UpstreamSnapshot | None:
        snapshot = self._snapshot
        if snapshot is None or (known_version is not None and snapshot.version <= known_version):
            return None
        return snapshot

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
