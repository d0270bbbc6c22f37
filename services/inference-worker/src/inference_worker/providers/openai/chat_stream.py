"""A streamed completion: the bytes of its chunks pass through, and little of the JSON is parsed."""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from values.usage import TokenUsage

from inference_worker.providers.inner_errors import find_error, unwrap
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
)
from inference_worker.providers.openai.chat_answer import DONE, describe, raise_error_in, read_completion
from inference_worker.providers.openai.chunks import (
    ENVELOPE,
    ERROR,
    completion_to_chunks,
    emit_role_once,
    has_only_known_fields,
    is_chunk,
    is_usage_chunk,
    usage_chunk,
)
from inference_worker.providers.openai.tool_calls import TOOL_CALLS, ToolCallPlaces
from inference_worker.providers.payloads import dump, parse_document
from inference_worker.providers.reported_usage import (
    openai_usage,
    plain_usage,
    read_usage,
    reports_usage,
    without_usage,
)
from inference_worker.providers.transport.completions import HttpCompletion
from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import LINGER_SECONDS, HttpClient, read_available
from inference_worker.providers.transport.sse import SseDecoder

# None matches inside a JSON string: its quotes are escaped. OpenAI puts a null "usage" into every chunk.
_CHOICES, _CHOICES_SPACED = b'"choices":[', b'"choices": ['
_ROLE = b'"role"'
_USAGE_NAME = b'"usage"'
_OPENED, _CLOSED = b"{}"
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')


class ChatStream(HttpCompletion):
    """A streamed completion, forwarded payload by payload."""

    __slots__ = ("_decoder", "_error", "_held", "_opening", "_recent", "_started", "_tool_calls", "_with_role", "usage")

    def __init__(self, response: Response, client: HttpClient, *, has_tools: bool = True) -> None:
        """`has_tools`: whether the answer may call any."""
        super().__init__(response, client)
        self._decoder = SseDecoder(client.endpoint.max_event_bytes)
        self._recent: deque[bytes] = deque(maxlen=4)
        self._opening: list[bytes] = []
        """All that came before the first chunk: it may be no stream."""
        self._held: dict[str, Any] = {}
        """Fields of chunks without a choice, for the first that has one."""
        self._with_role: set[int] = set()
        self._tool_calls = ToolCallPlaces() if has_tools else None
        self._started = False
        self._error: UpstreamFailed | None = None
        self.usage: TokenUsage | None = None

    async def read(self) -> Sequence[bytes]:
        """Return the payloads that arrived together, and record the usage among them."""
        while not self._ended:
            data = await read_available(self._response)
            if not self._started:
                self._keep_opening(data)
            payloads = self._decoder.feed(data) if data else self._decoder.flush()
            names = self._decoder.names
            if self._started and names is None and data and payloads and self._are_plain(payloads):
                # Most of a stream. What ends it is no chunk.
                self._recent.extend(payloads)
                return payloads
            done = DONE in payloads
            if done:
                payloads = payloads[: payloads.index(DONE)]
            for_client = self._filter_client_events(payloads, names)
            self._recent.extend(for_client)
            if done or not data:
                for_client = [*for_client, *self._end(done=done)]
            if for_client:
                return for_client
        if self._error is not None:
            raise self._error
        return ()

    def _filter_client_events(self, payloads: list[bytes], names: Sequence[bytes] | None) -> list[bytes]:
        """Return what the client gets. An error is raised by the next read, so that payloads before it are not lost."""
        for_client = []
        try:
            for position, payload in enumerate(payloads):
                name = names[position] if names is not None else b""
                # Of chunks that came together, few are the first or hold the usage.
                plain = self._started and not name and self._are_plain([payload])
                chunk = payload if plain else self._take(payload, name)
                if chunk:
                    for_client.append(chunk)
                    self._start()
        except UpstreamFailed as error:
            self.usage = error.usage or self.usage
            self.abort()
            self._error = error
        return for_client

    def _are_plain(self, payloads: list[bytes]) -> bool:
        """Tell whether all are chunks that the client gets as they are."""
        tool_calls = self._tool_calls
        return (tool_calls is None or not tool_calls.concern(payloads)) and are_plain_chunks(payloads)

    def _start(self) -> None:
        self._started = True
        self._opening.clear()

    def _take(self, payload: bytes, name: bytes) -> bytes:
        """Return the payload as the client gets it; empty for what is not a part of the answer."""
        event = unwrap(parse_event(payload))
        if event is None:
            raise UpstreamProtocolError("the upstream sent an event that is not a JSON object")
        if name or ERROR in payload or not has_only_known_fields(event):
            self._raise_error_in(event, name)
        if not is_chunk(event, name):
            return b""
        changed = False
        if _USAGE_NAME in payload and reports_usage(event):
            if self._started and self._take_plain_usage(event, payload):
                return b""
            usage, shown = read_usage(event)
            self.usage = usage or self.usage
            self.usage_payload = (
                payload if is_usage_chunk(event) and event["usage"] == shown else usage_chunk(event, shown)
            )
            if self._started and not event.get("choices"):
                return b""
            event, changed = without_usage(event), True
        if not event.get("choices"):
            self._held |= {key: value for key, value in event.items() if value and key not in ENVELOPE}
            return b""
        if self._held and not self._started:
            event, self._held, changed = {**self._held, **event}, {}, True
        changed = emit_role_once(event, self._with_role, first=not self._started) or changed
        if self._tool_calls is not None and TOOL_CALLS in payload:
            changed = self._tool_calls.mend(event) or changed
        return dump(event) if changed else payload

    def _take_plain_usage(self, event: dict[str, Any], payload: bytes) -> bool:
        """Take a chunk that already is as the client is to see it: nearly every provider's last one."""
        usage = plain_usage(event["usage"]) if is_usage_chunk(event) else None
        if usage is None:
            return False
        self.usage = usage
        self.usage_payload = payload
        return True

    def _raise_error_in(self, event: dict[str, Any], name: bytes) -> None:
        if not self._started:
            raise_error_in(event, self._client, self._response, name)
            return
        error = find_error(event, name)
        if error is not None:
            why = self._client.refused(error, self._response)
            words = f": {why.message}" if isinstance(why, UpstreamRejected) else ""
            failed = UpstreamInterrupted(f"the upstream's response was interrupted by an error{words}")
            failed.usage = openai_usage(event)
            raise failed

    def _end(self, *, done: bool) -> Sequence[bytes]:
        """End the stream; return what was no stream as the chunks of one."""
        if self._ended:
            return ()
        self._ended = True
        self._response.linger(LINGER_SECONDS)
        if not self._started:
            return self._read_opening(done=done)
        if not done and not self.usage_payload and not any(map(_FINISH_REASON.search, self._recent)):
            self._error = UpstreamInterrupted("the upstream's response was interrupted")
        return ()

    def _keep_opening(self, data: bytes) -> None:
        if data.strip() and sum(map(len, self._opening)) <= self._client.endpoint.max_response_bytes:
            self._opening.append(data)

    def _read_opening(self, *, done: bool) -> Sequence[bytes]:
        body = b"".join(self._opening)
        start = body.lstrip()[:1]
        if start in (b"{", b"["):
            try:
                completion = read_completion(body, self._client, self._response)
            except UpstreamFailed as error:
                self._error, self.usage = error, error.usage
                return ()
            self.usage, shown = read_usage(completion)
            if shown:
                self.usage_payload = usage_chunk({**completion, "choices": []}, shown)
            return completion_to_chunks(completion)
        if done or not start or body.startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
            self._error = UpstreamProtocolError("the upstream's stream is empty")
        else:
            came = describe(body, self._response.content_type)
            self._error = UpstreamProtocolError(f"the upstream sent {came} instead of a stream")
        return ()


def parse_event(payload: bytes) -> Any:
    """Parse the data of an event. Raises `UpstreamProtocolError`."""
    try:
        return parse_document(payload)
    except UpstreamProtocolError as error:
        raise UpstreamProtocolError("the upstream sent an event that is not a JSON object") from error


def are_plain_chunks(payloads: list[bytes]) -> bool:
    """Tell whether all are chunks without error, usage or role, by searching the block instead of each payload.

    Some providers put a null usage into every chunk.
    """
    if len(payloads) == 1:
        # Most chunks come alone: nothing has to be joined or counted.
        payload = payloads[0]
        return (
            _count_choices(payload) == 1
            and payload[0] == _OPENED
            and payload[-1] == _CLOSED
            and ERROR not in payload
            and _ROLE not in payload
            and b"\n" not in payload
            and (_USAGE_NAME not in payload or not _USAGE.search(payload))
        )
    block = b"\n".join(payloads)
    borders = len(payloads) - 1
    return (
        ERROR not in block
        and (_USAGE_NAME not in block or not _USAGE.search(block))
        and _ROLE not in block
        and block[:1] == b"{"
        and block[-1:] == b"}"
        and block.count(b"}\n{") == borders == block.count(b"\n")
        and _count_choices(block) == borders + 1
    )


def _count_choices(block: bytes) -> int:
    """Count the lists of choices, in the form that the provider writes: errors of some have null for it."""
    return block.count(_CHOICES) or block.count(_CHOICES_SPACED)
