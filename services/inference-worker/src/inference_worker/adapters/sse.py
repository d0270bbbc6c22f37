"""Server-sent events, cut out of a byte stream without a look inside."""

from inference_worker.domain.failures import UpstreamGarbage

BOM = b"\xef\xbb\xbf"


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
        *events, self._rest = data.split(b"\n\n")
        if len(self._rest) > self._max_event_bytes:
            raise UpstreamGarbage("the upstream sent an event without an end")
        found = []
        for event in events:
            # Nearly all events are one line; the others take the long way.
            if event[:6] == b"data: " and b"\n" not in event and len(event) > 6:
                found.append(event[6:])
            elif payload := _data(event):
                found.append(payload)
        return found

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


def _data(event: bytes) -> bytes:
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
