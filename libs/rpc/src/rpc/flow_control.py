"""What bounds a call: the windows of each side (received payloads, and how much may be sent), and its deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from heapq import heappop, heappush
from typing import Final, Protocol

from rpc.wire import PAYLOAD_OVERHEAD_BYTES, WINDOW_BYTES, SendQueue

# Credit is sent in portions of this size: one per payload would double the frames of a stream.
CREDIT_BYTES = WINDOW_BYTES // 2


class FlowControl:
    """Windows of one side of a call. A slow reader stops the peer's writes to its own call, not those to others."""

    # Class-level defaults, because most calls never change them and setting each costs time in every call.
    peer_done = False
    """The peer sends nothing more."""
    _reader_waiter: asyncio.Future[None] | None = None
    _writer_event: asyncio.Event | None = None
    _consumed = 0
    _receive_window = WINDOW_BYTES
    _send_window = WINDOW_BYTES

    def __init__(self, call_id: int, send_queue: SendQueue, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the running one; asking for it in each call would cost a system call."""
        self.call_id = call_id
        self.send_queue = send_queue
        self._loop = loop
        self._received: deque[bytes] = deque()

    def accept(self, payload: bytes) -> bool:
        """Keep a payload for the reader. False if the peer exceeded its window or sent it after its end."""
        if self._receive_window <= 0 or self.peer_done:
            return False
        self._receive_window -= len(payload) + PAYLOAD_OVERHEAD_BYTES
        self._received.append(payload)
        self.wake_reader()
        return True

    def add_credit(self, credit: int) -> None:
        """Widen the send window by `credit` bytes that the peer granted."""
        self._send_window += credit
        if self._send_window > 0:
            self.wake_writer()

    def wake_reader(self) -> None:
        """Let the reader check again for payloads or the end."""
        waiter = self._reader_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def wake_writer(self) -> None:
        """Let the writer check again whether it may send."""
        if self._writer_event is not None:
            self._writer_event.set()
            self._writer_event = None

    def wake_both(self) -> None:
        """Let reader and writer notice that the call has ended."""
        self.wake_reader()
        self.wake_writer()

    async def next_payload(self) -> bytes | None:
        """Wait for the next payload; None after the last."""
        while not self._received:
            if self.peer_done:
                return None
            self._reader_waiter = self._loop.create_future()
            try:
                await self._reader_waiter
            finally:
                self._reader_waiter = None
        payload = self._received.popleft()
        if not self.peer_done:
            self._consumed += len(payload) + PAYLOAD_OVERHEAD_BYTES
            if self._consumed >= CREDIT_BYTES:
                self.send_queue.put(self.call_id, credit=self._consumed)
                self._receive_window += self._consumed
                self._consumed = 0
        return payload

    def discard_received(self) -> None:
        """Drop payloads that no reader will take."""
        self._received.clear()

    @property
    def can_send(self) -> bool:
        """Whether a payload may be sent now: the peer's window is open and the stream's queue is not full."""
        return self._send_window > 0 and not self.send_queue.full

    async def wait_to_send(self) -> None:
        """Wait for credit, for room in the send queue, or for the end of the call; the caller checks which."""
        if self._writer_event is None:
            self._writer_event = asyncio.Event()
        if self.send_queue.full:
            self.send_queue.on_room(self.wake_writer)
        await self._writer_event.wait()


# Deadlines are rounded up to buckets of so many milliseconds: they never fire early, and at most 5 % late.
FINE_BUCKET_MS: Final = 5  # below one second
MIDDLE_BUCKET_MS: Final = 50  # below 30 seconds
COARSE_BUCKET_MS: Final = 500


class Expiring(Protocol):
    """Something with a deadline."""

    def expire(self) -> None:
        """Called once the deadline has passed."""


class Deadlines:
    """Expires what was `add`ed and not `remove`d, on the event loop that ran when this was made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._buckets: dict[int, set[Expiring]] = {}
        self._bucket_times: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    def add(self, item: Expiring, deadline: float, seconds: float) -> int:
        """Expire `item` at `deadline` (loop time), which is `seconds` from now; returns the bucket for `remove`."""
        width = FINE_BUCKET_MS if seconds < 1 else MIDDLE_BUCKET_MS if seconds < 30 else COARSE_BUCKET_MS
        at = (int(deadline * 1000) // width + 1) * width
        bucket = self._buckets.get(at)
        if bucket is None:
            bucket = self._buckets[at] = set()
            heappush(self._bucket_times, at)
            if self._timer is None or at < self._timer_at:
                self._set_timer()
        bucket.add(item)
        return at

    def remove(self, item: Expiring, at: int) -> None:
        """Do not expire `item`, which was added to the bucket `at`."""
        bucket = self._buckets.get(at)
        if bucket is not None:
            bucket.discard(item)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        if self._bucket_times:
            self._timer_at = self._bucket_times[0]
            self._timer = self.loop.call_at(self._timer_at / 1000, self._fire)

    def _fire(self) -> None:
        now = self.loop.time() * 1000 + 0.5
        expired: list[Expiring] = []
        while self._bucket_times and self._bucket_times[0] <= now:
            expired += self._buckets.pop(heappop(self._bucket_times))
        self._timer = None
        self._set_timer()
        for item in expired:
            item.expire()
