"""What travels: batches of frames, gathered in an outbox and written by one pump per stream."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from argosy.exchange.v1.exchange_pb2 import Batch, Frame

from chassis.telemetry import counter, gauge, histogram

OPEN: Final = "/argosy.exchange.v1.Exchange/Open"
SERVICE: Final = "argosy.exchange.v1.Exchange"
VERSION: Final = ("argosy-exchange", "1")

WINDOW_BYTES: Final = 262_144  # what a side may send of one call before it hears of credit
MORE_BYTES: Final = 64  # that each payload counts besides its own, so that small and empty ones have a bound too
PAYLOAD_BYTES: Final = 16 * 1024 * 1024
MESSAGE_BYTES: Final = PAYLOAD_BYTES + 64 * 1024  # of gRPC: a payload at its largest, and what is put around it
BATCH_BYTES: Final = 1024 * 1024  # a batch is written alone once it has this much; one larger payload still fits
QUEUED_BYTES: Final = 32 * 1024 * 1024  # of one stream; beyond it nobody adds a payload without waiting
MOST_TURNS: Final = 8  # of the event loop, that a frame on a busy stream waits for company
CALLS: Final = 10_000  # in flight on one stream

STREAMS = gauge("argosy_exchange_streams", "Exchange streams that are open, by side.", ("side",))
IN_FLIGHT = gauge("argosy_exchange_calls_in_flight", "Calls on exchange streams, by side.", ("side",))
FRAMES = histogram(
    "argosy_exchange_batch_frames",
    "Frames that travelled as one message, by side that sent them.",
    ("side",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
VIOLATIONS = counter(
    "argosy_exchange_violations_total", "Frames that broke the rules of the exchange, by side that met them.", ("side",)
)

Write = Callable[[bytes], Awaitable[Any]]


class Status(NamedTuple):
    """How a call ended, as gRPC says it; `details` is a serialized google.rpc.Status."""

    code: int
    message: str = ""
    details: bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()


def flat(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """Write gRPC's pairs as keys and values in turn; bytes become base64."""
    return [text for key, value in metadata for text in (key, _text(value))]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else base64.b64encode(value).decode()


def frames_of(data: bytes) -> Iterable[Frame]:
    """Read a batch. Raises `DecodeError`."""
    return Batch.FromString(data).frames


class Outbox:
    """Frames on their way to a peer. Whoever puts one wakes the pump, once; it takes all that gathered by then."""

    __slots__ = (
        "_batch",
        "_busy",
        "_closing",
        "_crowd",
        "_ended",
        "_frames",
        "_full",
        "_observe",
        "_size",
        "_waiting",
        "_wake",
        "begun",
        "queued_bytes",
        "written",
    )

    def __init__(self, side: str) -> None:
        self._observe = FRAMES.labels(side).observe
        self._batch = Batch()
        self._frames = self._batch.frames
        self._waiting: dict[int, Frame] = {}
        self._size = 0
        self._full: deque[tuple[Batch, int]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._crowd: set[Callable[[], None]] = set()
        self._closing = False
        self._ended = False
        self._busy = False
        """The last batch carried several calls, so the next may, too."""
        self.queued_bytes = 0
        self.begun = 1
        """The number of the batch that the next frame joins."""
        self.written = 0
        """The number of the last batch that was handed to gRPC: from then on it may have arrived."""

    def put(self, call_id: int, payload: bytes | None = None, **step: Any) -> None:
        """Add a step; without effect once the pump has ended. Steps of a call that wait together become one frame.

        `step` holds fields of the frame other than its payloads. The first step of a call comes alone.
        """
        if self._ended:
            return
        if payload is not None:
            size = len(payload) + MORE_BYTES
            if self._size and self._size + size > BATCH_BYTES:
                self._seal()
            self._size += size
            self.queued_bytes += size
        frame = self._waiting.get(call_id)
        if frame is None:
            self._waiting[call_id] = self._frames.add(
                call_id=call_id, payloads=() if payload is None else (payload,), **step
            )
            if self._wake is not None:
                self._rouse()
            return
        if payload is not None:
            frame.payloads.append(payload)
        for name, value in step.items():
            if name == "metadata":
                frame.metadata.extend(value)
            else:
                # Credits add up; all else is said once.
                setattr(frame, name, frame.credit + value if name == "credit" else value)

    @property
    def full(self) -> bool:
        """Whether more waits than the peer may be behind."""
        return self.queued_bytes >= QUEUED_BYTES

    def when_room(self, tell: Callable[[], None]) -> None:
        """Call `tell` once: when the outbox is not full any more, or takes nothing more."""
        self._crowd.add(tell)

    async def pump(self, write: Write) -> None:
        """Write what gathers, until `close`; what was put before that is still written."""
        try:
            while await self._gathered():
                batch, size = self._full.popleft()
                count = len(batch.frames)
                self._observe(count)
                self._busy = count > 1
                data = batch.SerializeToString()
                self.written += 1
                if len(data) <= MESSAGE_BYTES:
                    await write(data)
                else:
                    for frame in batch.frames:
                        await write(Batch(frames=(frame,)).SerializeToString())
                self.queued_bytes -= size
                if self._crowd and not self.full:
                    self._disperse()
        finally:
            self._ended = self._closing = True
            self._wake = None
            # What waits is lost. It must not look full: nobody would ever make room again.
            self.queued_bytes = 0
            self._full.clear()
            self._disperse()

    def _disperse(self) -> None:
        crowd, self._crowd = self._crowd, set()
        for tell in crowd:
            tell()

    async def _gathered(self) -> bool:
        """Wait until there is a batch to write; False at the end."""
        while not self._full:
            if self._frames:
                if self._busy:
                    await self._more()
                if not self._full:
                    self._seal()
            elif self._closing:
                return False
            else:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
        return True

    async def _more(self) -> None:
        """Give a busy stream a few turns of the loop, as long as each brings more calls: that makes fewer messages."""
        gathered = 0
        for _ in range(MOST_TURNS):
            if len(self._waiting) == gathered or self._full:
                return
            gathered = len(self._waiting)
            await asyncio.sleep(0)

    def close(self) -> None:
        """Let the pump end, once all is written."""
        self._closing = True
        self._rouse()

    def _rouse(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    def _seal(self) -> None:
        self._full.append((self._batch, self._size))
        self._batch = Batch()
        self._frames = self._batch.frames
        self._waiting = {}
        self._size = 0
        self.begun += 1
