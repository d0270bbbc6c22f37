"""Server-sent events as the HTML standard parses them, cut out of a byte stream; the data itself is not parsed."""

from collections.abc import Sequence

from inference_worker.providers.model import UpstreamProtocolError

BOM = b"\xef\xbb\xbf"
FIELD = b"data: "
SEPARATOR = b"\n\n" + FIELD


class SseDecoder:
    """Feed it bytes as they arrive, however they were split; it returns the data of every event that is complete."""

    __slots__ = ("_after_cr", "_max_event_bytes", "_rest", "_started", "names")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._started = False
        self._after_cr = False
        self.names: Sequence[bytes] | None = None
        """Of the events that were returned last, when one of them has a name; empty is the default, a message."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that ended in `data`, in order; events without data are dropped.

        Raises `UpstreamProtocolError` when an event grows beyond the limit.
        """
        self.names = None
        if self._after_cr and data:
            # The line ended with the carriage return already.
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if self._rest:
            data = self._rest + data
        if not self._started:
            if len(data) < len(BOM) and BOM.startswith(data):
                self._rest = data
                return []
            self._started = True
            data = data.removeprefix(BOM)
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            # JSON escapes carriage returns inside of strings.
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        complete, end, rest = data.rpartition(b"\n\n")
        self._rest = rest
        if len(rest) > self._max_event_bytes:
            raise UpstreamProtocolError("the upstream sent an event without an end")
        return self._payloads(complete) if end else []

    def flush(self) -> list[bytes]:
        """Return the data of a last event without its blank line: the standard drops it, some upstreams omit it."""
        rest, self._rest = self._rest, b""
        self.names = None
        return self._payloads(rest)

    def _payloads(self, events: bytes) -> list[bytes]:
        if events.startswith(FIELD):
            payloads = events[len(FIELD) :].split(SEPARATOR)
            # Nearly all events are one line of data: then one split of the block was enough.
            if events.count(b"\n") == 2 * (len(payloads) - 1) and b"" not in payloads:
                return payloads
        parsed = [event for event in map(_parse_event, events.split(b"\n\n")) if event[1]]
        if any(name for name, _ in parsed):
            self.names = [name for name, _ in parsed]
        return [data for _, data in parsed]


def _parse_event(event: bytes) -> tuple[bytes, bytes]:
    """Return an event's name, empty for a message, and its data. `id` and `retry` are for reconnecting clients."""
    name, lines = b"", []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return b"" if name == b"message" else name, b"\n".join(lines)
