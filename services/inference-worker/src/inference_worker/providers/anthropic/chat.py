"""The fast path for Anthropic's Messages API, behind the same face as OpenAI's."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
from chassis.clock import Clock

from inference_worker.adapters.anthropic_events import EventTranslator, to_chat_completion, usage_of
from inference_worker.adapters.anthropic_request import to_messages_request
from inference_worker.adapters.connection import Reply
from inference_worker.adapters.documents import as_object
from inference_worker.adapters.http import LINGER_SECONDS, HttpUpstream, read_some
from inference_worker.adapters.sse import EventSplitter
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed, UpstreamGarbage, UpstreamRefused
from inference_worker.domain.plan import Candidate
from inference_worker.domain.ports import Answer
from inference_worker.domain.usage import Usage

T = TypeVar("T")


class AnthropicProvider:
    """Chat completions of an upstream that speaks Anthropic's API."""

    def __init__(self, http: HttpUpstream, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def open(self, candidate: Candidate, *, stream: bool) -> Answer:
        """Translate the candidate's body and send it."""
        reply = await self._http.post("/v1/messages", _translated(candidate.body, stream=stream))
        created = int(self._clock.now().timestamp())
        if stream:
            return StreamedMessage(reply, created, self._http)
        return WholeMessage(reply, created, self._http)


class StreamedMessage:
    """A message's events, translated as they come."""

    def __init__(self, reply: Reply, created: int, http: HttpUpstream) -> None:
        self._reply = reply
        self._http = http
        self._events = EventSplitter(http.endpoint.max_event_bytes)
        self._translator = EventTranslator(created)
        self._over = False
        self._failure: UpstreamFailed | None = None
        self.usage_payload = b""

    @property
    def usage(self) -> Usage | None:
        """What the upstream has said about tokens so far."""
        return self._translator.usage

    async def read(self) -> Sequence[bytes]:
        """Chunks for the events that arrived together."""
        while not self._over:
            data = await read_some(self._reply)
            chunks = self._translated(self._events.feed(data) if data else self._events.end())
            if not data and not self._over:
                self._over = True
                self._failure = UpstreamCut("the upstream broke off its answer")
            if chunks:
                return chunks
        if self._failure is not None:
            raise self._failure
        return ()

    def abort(self) -> None:
        """Close the connection."""
        if not self._over:
            self._over = True
            self._reply.close()

    def _translated(self, payloads: list[bytes]) -> list[bytes]:
        """Chunks; a failure is kept for the next read, so that what came before it is not lost."""
        chunks = []
        try:
            for payload in payloads:
                event = as_object(payload)
                chunk = _understood(self._translator.translate, event)
                if chunk is not None:
                    chunks.append(chunk)
                if event.get("type") == "message_stop":
                    self._end()
                    break
        except UpstreamFailed as failure:
            self.abort()
            self._failure = failure
        return chunks

    def _end(self) -> None:
        if not self._translator.finished:
            raise UpstreamGarbage("the upstream stopped without saying why")
        self._over = True
        self.usage_payload = self._translator.usage_payload() if self.usage is not None else b""
        self._reply.linger(LINGER_SECONDS)


class WholeMessage:
    """One message, translated."""

    def __init__(self, reply: Reply, created: int, http: HttpUpstream) -> None:
        self._reply = reply
        self._created = created
        self._http = http
        self._over = False
        self.usage: Usage | None = None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        """The chat completion, and then nothing."""
        if self._over:
            return ()
        message = as_object(await self._http.read_whole(self._reply))
        completion = _understood(to_chat_completion, message, self._created)
        self._over = True
        self.usage = usage_of(message.get("usage") or {})
        return (orjson.dumps(completion),)

    def abort(self) -> None:
        """Close the connection."""
        if not self._over:
            self._over = True
            self._reply.close()


def _translated(body: bytes, *, stream: bool) -> bytes:
    try:
        return orjson.dumps(to_messages_request(orjson.loads(body)) | {"stream": stream})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UpstreamRefused("the request's body has values of the wrong types") from error


def _understood(translate: Callable[..., T], *said: Any) -> T:
    """Run a translation; whatever it stumbles over is the upstream's garbage."""
    try:
        return translate(*said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UpstreamGarbage("the upstream's answer does not follow its protocol") from error
