"""The wire: limits, statuses, metadata, and the queue in which frames of one event loop turn become one batch."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from argosy.exchange.v1.exchange_pb2 import Batch, Frame

from rpc.metrics import BATCH_FRAMES

SERVICE_NAME: Final = "argosy.exchange.v1.Exchange"
OPEN_METHOD: Final = f"/{SERVICE_NAME}/Open"
VERSION_METADATA: Final = ("argosy-exchange", "1")

WINDOW_BYTES: Final = 262_144  # what one side of a call may send before it receives credit
# Counted for each payload besides its own bytes, which bounds the number of small ones.
PAYLOAD_OVERHEAD_BYTES: Final = 64
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
MAX_MESSAGE_BYTES: Final = MAX_PAYLOAD_BYTES + 64 * 1024  # gRPC's limit: the largest payload with its frame and batch
MAX_CALLS: Final = 10_000  # in flight on one stream


class Log(Protocol):
    """A structured logger of the host."""

    def debug(self, event: str, /, **fields: Any) -> None: ...

    def warning(self, event: str, /, **fields: Any) -> None: ...


class Status(NamedTuple):
    """How a call ended: a gRPC status code and message; `details` is a serialized google.rpc.Status."""

    code: int
    message: str = ""
    details: bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()


def flatten_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """Turn gRPC's pairs into alternating keys and values; bytes become base64."""
    return [text for key, value in metadata for text in (key, _to_text(value))]


def parse_metadata(flat: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """Turn alternating keys and values into gRPC's pairs. Raises `ValueError` when they are malformed.

    As in gRPC, the values of keys that end in "-bin" are bytes; on the wire they are base64.
    """
    texts = list(flat)
    return tuple(
        (key, base64.b64decode(value, validate=True) if key.endswith("-bin") else value)
        for key, value in zip(texts[::2], texts[1::2], strict=True)
    )


def decode_batch(data: bytes) -> Iterable[Frame]:
    """Return the frames of a batch. Raises `DecodeError`."""
    return Batch.FromString(data).frames


def _to_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else base64.b64encode(value).decode()


MAX_BATCH_BYTES: Final = 1024 * 1024  # a batch of this size takes no further payload; a larger single one still fits
MAX_QUEUED_BYTES: Final = 32 * 1024 * 1024  # of one stream; above it, calls wait before they queue another payload
MAX_COALESCE_TURNS: Final = 8  # event loop turns that a frame on a busy stream waits for frames of other calls

Write = Callable[[bytes], Awaitable[Any]]


class SendQueue:
    """Frames for one peer. `put` wakes the pump, which writes everything that is queued by then as one batch."""

    __slots__ = (
        "_batch",
        "_closing",
        "_coalescing",
        "_ended",
        "_frames",
        "_observe",
        "_open_frames",
        "_pump_waiter",
        "_sealed",
        "_size",
        "_waiters",
        "open_batch",
        "queued_bytes",
        "written_batches",
    )

    def __init__(self, side: str) -> None:
        self._observe = BATCH_FRAMES.labels(side).observe
        self._batch = Batch()
        self._frames = self._batch.frames
        self._open_frames: dict[int, Frame] = {}
        self._size = 0
        self._sealed: deque[tuple[Batch, int]] = deque()
        self._pump_waiter: asyncio.Future[None] | None = None
        self._waiters: set[Callable[[], None]] = set()
        self._closing = False
        self._ended = False
        self._coalescing = False
        """The last batch had frames of several calls, so the stream is busy and waiting a few turns pays off."""
        self.queued_bytes = 0
        self.open_batch = 1
        """Number of the batch that the next frame joins."""
        self.written_batches = 0
        """Batches that were handed to gRPC: the peer may have received them."""

    def put(self, call_id: int, payload: bytes | None = None, **fields: Any) -> None:
        """Queue a payload or other frame fields of a call; does nothing once the pump has ended.

        What one call queues for the same batch becomes one frame. The first frame of a call must be put alone.
        """
        if self._ended:
            return
        if payload is not None:
            size = len(payload) + PAYLOAD_OVERHEAD_BYTES
            if self._size and self._size + size > MAX_BATCH_BYTES:
                self._seal()
            self._size += size
            self.queued_bytes += size
        frame = self._open_frames.get(call_id)
        if frame is None:
            self._open_frames[call_id] = self._frames.add(
                call_id=call_id, payloads=() if payload is None else (payload,), **fields
            )
            if self._pump_waiter is not None:
                self._wake_pump()
            return
        if payload is not None:
            frame.payloads.append(payload)
        for name, value in fields.items():
            if name == "metadata":
                frame.metadata.extend(value)
            else:
                # Credits add up; every other field is set once in a call.
                setattr(frame, name, frame.credit + value if name == "credit" else value)

    @property
    def full(self) -> bool:
        """Whether calls must wait before they queue another payload."""
        return self.queued_bytes >= MAX_QUEUED_BYTES

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the queue is no longer full or has ended."""
        self._waiters.add(callback)

    async def pump(self, write: Write) -> None:
        """Write batches until `close`; what was queued before that is still written."""
        try:
            while await self._wait_for_batch():
                batch, size = self._sealed.popleft()
                count = len(batch.frames)
                self._observe(count)
                self._coalescing = count > 1
                data = batch.SerializeToString()
                self.written_batches += 1
                if len(data) <= MAX_MESSAGE_BYTES:
                    await write(data)
                else:
                    for frame in batch.frames:
                        await write(Batch(frames=(frame,)).SerializeToString())
                self.queued_bytes -= size
                if self._waiters and not self.full:
                    self._notify_waiters()
        finally:
            self._ended = self._closing = True
            self._pump_waiter = None
            # What is queued is lost. The queue must not look full, because no pump will make room again.
            self.queued_bytes = 0
            self._sealed.clear()
            self._notify_waiters()

    def close(self) -> None:
        """Let the pump end once everything is written."""
        self._closing = True
        self._wake_pump()

    def _notify_waiters(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for callback in waiters:
            callback()

    async def _wait_for_batch(self) -> bool:
        """Wait until there is a batch to write; False at the end."""
        while not self._sealed:
            if self._frames:
                if self._coalescing:
                    await self._coalesce()
                if not self._sealed:
                    self._seal()
            elif self._closing:
                return False
            else:
                self._pump_waiter = asyncio.get_running_loop().create_future()
                await self._pump_waiter
        return True

    async def _coalesce(self) -> None:
        """Wait a few turns of the event loop, as long as each adds frames of further calls.

        On a busy stream the calls of one turn tend to queue their frames over the next few. A gRPC message costs more
        than those turns, so fewer and larger messages save CPU; a stream with a single call does not wait.
        """
        known = 0
        for _ in range(MAX_COALESCE_TURNS):
            if len(self._open_frames) == known or self._sealed:
                return
            known = len(self._open_frames)
            await asyncio.sleep(0)

    def _wake_pump(self) -> None:
        waiter, self._pump_waiter = self._pump_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _seal(self) -> None:
        self._sealed.append((self._batch, self._size))
        self._batch = Batch()
        self._frames = self._batch.frames
        self._open_frames = {}
        self._size = 0
        self.open_batch += 1
