"""Server-sent events, cut out of a byte stream without a look inside."""

from inference_worker.domain.failures import UpstreamGarbage

BOM = b"\xef\xbb\xbf"
FIELD = b"data: "
BETWEEN = b"\n\n" + FIELD


class EventSplitter:
    """Feed it bytes as they arrive, however they were split; get the data of every event that is complete."""

    __slots__ = ("_begun", "_max_event_bytes", "_rest")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that ended in `data`, in order; events without data are dropped.

        Raises `UpstreamGarbage` when an event grows beyond the limit.
        """
        if self._rest:
            data = self._rest + data
        if not self._begun:
            if len(data) < len(BOM) and BOM.startswith(data):
                self._rest = data
                return []
            self._begun = True
            data = data.removeprefix(BOM)
        if b"\r" in data:
            data = self._normalised(data)
        whole, end, rest = data.rpartition(b"\n\n")
        self._rest = rest
        if len(rest) > self._max_event_bytes:
            raise UpstreamGarbage("the upstream sent an event without an end")
        return _payloads(whole) if end else []

    def end(self) -> list[bytes]:
        """The data of a last event that lacks its blank line: the standard drops it, but some upstreams forget it."""
        rest, self._rest = self._rest, b""
        payload = _data(rest.rstrip(b"\r\n"))
        return [payload] if payload else []

    def _normalised(self, data: bytes) -> bytes:
        """Lines ended by CR or CRLF, to LF. Raw carriage returns cannot stand inside JSON's strings."""
        last = b""
        if data.endswith(b"\r"):
            # Its line feed may be still on the way.
            data, last = data[:-1], b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + last


def _payloads(events: bytes) -> list[bytes]:
    """The data of complete events."""
    if events.startswith(FIELD):
        found = events[len(FIELD) :].split(BETWEEN)
        # Nearly all events are one line of data: then this has been all, for the price of one cut per block of them.
        if events.count(b"\n") == 2 * (len(found) - 1) and b"" not in found:
            return found
    return [payload for event in events.split(b"\n\n") if (payload := _data(event))]


def _data(event: bytes) -> bytes:
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
