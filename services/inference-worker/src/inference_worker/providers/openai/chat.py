"""The fast path for OpenAI-shaped upstreams: bytes through, JSON read only where somebody decides on it."""

import re
from collections.abc import Sequence
from typing import Any

from inference_worker.adapters.connection import Reply
from inference_worker.adapters.documents import as_object, usage_of
from inference_worker.adapters.http import LINGER_SECONDS, HttpUpstream, read_some
from inference_worker.adapters.sse import EventSplitter
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage
from inference_worker.domain.plan import Candidate
from inference_worker.domain.ports import Answer
from inference_worker.domain.usage import Usage

DONE = b"[DONE]"

# None matches inside of a JSON string: there the quotes are escaped. OpenAI puts a null "usage" into every chunk.
_ERROR = b'"error"'
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')


class OpenaiProvider:
    """Chat completions of an upstream that speaks OpenAI's API."""

    def __init__(self, http: HttpUpstream) -> None:
        self._http = http

    async def open(self, candidate: Candidate, *, stream: bool) -> Answer:
        """Send the candidate's body as it is."""
        reply = await self._http.post("/chat/completions", candidate.body)
        if stream:
            return StreamedAnswer(reply, self._http)
        return WholeAnswer(reply, self._http)


class StreamedAnswer:
    """Server-sent events, forwarded payload by payload."""

    __slots__ = ("_begun", "_events", "_failure", "_http", "_over", "_recent", "_reply", "usage", "usage_payload")

    def __init__(self, reply: Reply, http: HttpUpstream) -> None:
        self._reply = reply
        self._http = http
        self._events = EventSplitter(http.endpoint.max_event_bytes)
        self._recent: list[bytes] = []
        self._begun = False
        self._over = False
        self._failure: UpstreamFailed | None = None
        self.usage: Usage | None = None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        """The payloads that arrived together; usage is noticed on the way."""
        while not self._over:
            data = await read_some(self._reply)
            payloads = self._events.feed(data) if data else self._events.end()
            done = DONE in payloads
            if done:
                payloads = payloads[: payloads.index(DONE)]
            sifted = self._sift(payloads)
            self._recent = [*self._recent, *sifted][-4:]
            if done or not data:
                self._end(done=done)
            if sifted:
                return sifted
        if self._failure is not None:
            raise self._failure
        return ()

    def abort(self) -> None:
        """Close the connection."""
        if not self._over:
            self._over = True
            self._reply.close()

    def _sift(self, payloads: list[bytes]) -> list[bytes]:
        """What the client gets; a failure is kept for the next read, so that what came before it is not lost."""
        if self._begun and _are_plain(payloads):
            return payloads
        sifted = []
        try:
            for payload in payloads:
                if self._is_for_client(payload):
                    sifted.append(payload)
                self._begun = True
        except UpstreamFailed as failure:
            self.abort()
            self._failure = failure
        return sifted

    def _end(self, *, done: bool) -> None:
        if self._over:
            return
        self._over = True
        self._reply.linger(LINGER_SECONDS)
        if not self._begun:
            self._failure = UpstreamGarbage("the upstream's stream holds no answer")
        elif not done and not self.usage_payload and not any(map(_FINISHED.search, self._recent)):
            self._failure = UpstreamCut("the upstream broke off its answer")

    def _is_for_client(self, payload: bytes) -> bool:
        if not self._begun:
            as_object(payload)
        elif payload[:1] != b"{" or payload[-1:] != b"}":
            raise UpstreamGarbage("the upstream sent an event that is not a JSON object")
        if _ERROR in payload or _USAGE.search(payload):
            return self._is_answer(as_object(payload), payload)
        return True

    def _is_answer(self, event: dict[str, Any], payload: bytes) -> bool:
        if event.get("error") or event.get("object") == "error":
            if self._begun:
                raise UpstreamCut("the upstream broke off with an error")
            raise UpstreamFailed("the upstream failed before its answer began")
        self.usage = usage_of(event) or self.usage
        if self.usage is not None and event.get("choices") == []:
            self.usage_payload = payload
            return False
        return True


def _are_plain(payloads: list[bytes]) -> bool:
    """Whether all are JSON objects that nobody must read, by a glance at the block instead of one at each."""
    block = b"\n".join(payloads)
    borders = len(payloads) - 1
    return (
        _ERROR not in block
        and not _USAGE.search(block)
        and block[:1] == b"{"
        and block[-1:] == b"}"
        and block.count(b"}\n{") == borders == block.count(b"\n")
    )


class WholeAnswer:
    """One JSON body, forwarded as it is."""

    __slots__ = ("_http", "_over", "_reply", "usage", "usage_payload")

    def __init__(self, reply: Reply, http: HttpUpstream) -> None:
        self._reply = reply
        self._http = http
        self._over = False
        self.usage: Usage | None = None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        """The body, and then nothing."""
        if self._over:
            return ()
        body = await self._http.read_whole(self._reply)
        answer = as_object(body)
        if answer.get("error"):
            raise UpstreamFailed("the upstream answered with an error")
        self._over = True
        self.usage = usage_of(answer)
        return (body,)

    def abort(self) -> None:
        """Close the connection."""
        if not self._over:
            self._over = True
            self._reply.close()
