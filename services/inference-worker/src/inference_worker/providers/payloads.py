"""What providers send: events cut out of a byte stream unparsed, and the few JSON fields that decide something."""

from typing import Any, TypeGuard

import orjson
from values.money import MAX_TOKENS
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.model import UpstreamProtocolError

BOM = b"\xef\xbb\xbf"
FIELD = b"data: "
SEPARATOR = b"\n\n" + FIELD


class SseDecoder:
    """Feed it bytes as they arrive, however they were split; it returns the data of every event that is complete."""

    __slots__ = ("_max_event_bytes", "_rest", "_started")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that ended in `data`, in order; events without data are dropped.

        Raises `UpstreamProtocolError` when an event grows beyond the limit.
        """
        if self._rest:
            data = self._rest + data
        if not self._started:
            if len(data) < len(BOM) and BOM.startswith(data):
                self._rest = data
                return []
            self._started = True
            data = data.removeprefix(BOM)
        if b"\r" in data:
            data = _normalize_line_ends(data)
        complete, end, rest = data.rpartition(b"\n\n")
        self._rest = rest
        if len(rest) > self._max_event_bytes:
            raise UpstreamProtocolError("the upstream sent an event without an end")
        return _payloads(complete) if end else []

    def flush(self) -> list[bytes]:
        """Return the data of a last event without its blank line: the standard drops it, some upstreams omit it."""
        rest, self._rest = self._rest, b""
        payload = _data(rest.rstrip(b"\r\n"))
        return [payload] if payload else []


def _normalize_line_ends(data: bytes) -> bytes:
    """Turn CR and CRLF into LF. JSON escapes carriage returns inside of strings."""
    last = b""
    if data.endswith(b"\r"):
        # Its line feed may not have arrived yet.
        data, last = data[:-1], b"\r"
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + last


def _payloads(events: bytes) -> list[bytes]:
    if events.startswith(FIELD):
        payloads = events[len(FIELD) :].split(SEPARATOR)
        # Nearly all events are one line of data: then one split of the block was enough.
        if events.count(b"\n") == 2 * (len(payloads) - 1) and b"" not in payloads:
            return payloads
    return [payload for event in events.split(b"\n\n") if (payload := _data(event))]


def _data(event: bytes) -> bytes:
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def parse_object(payload: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `UpstreamProtocolError` for anything else."""
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UpstreamProtocolError("the upstream's response is not JSON") from error
    if not isinstance(parsed, dict):
        raise UpstreamProtocolError("the upstream's response is not a JSON object")
    return parsed


def openai_usage(response: dict[str, Any]) -> TokenUsage | None:
    """Return the usage in a completion or a chunk of one; None unless both counts are there."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    input_tokens, output_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not is_token_count(input_tokens) or not is_token_count(output_tokens):
        return None
    return TokenUsage(UsageSource.REPORTED, input_tokens, output_tokens)


def is_token_count(value: object) -> TypeGuard[int]:
    """Tell whether a reported count is plausible: JSON's true is an int in Python, and some upstreams send -1.

    Metering rejects the whole usage event of a request for one count above `MAX_TOKENS`.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS
