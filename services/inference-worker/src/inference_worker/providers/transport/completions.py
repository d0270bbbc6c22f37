"""What a streamed and a buffered completion have in common."""

from collections.abc import Callable, Sequence

from values.usage import TokenUsage

from inference_worker.providers.model import UpstreamFailed, UpstreamProtocolError
from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import HttpClient, read_available


class HttpCompletion:
    """What a streamed and a buffered completion have in common."""

    __slots__ = ("_client", "_ended", "_pieces", "_response", "usage_payload", "warnings")

    def __init__(self, response: Response, client: HttpClient) -> None:
        self._response = response
        self._client = client
        self._ended = False
        self._pieces: list[bytes] = []
        self.usage_payload = b""
        self.warnings: tuple[str, ...] = ()
        """What was left out of the request, a sentence each."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that have arrived and were not read, because the client is slow."""
        return self._response.buffered_bytes

    @property
    def last_byte_at(self) -> float:
        """When anything arrived, on the monotonic clock, keep-alives too."""
        return self._response.last_byte_at

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._response.close()

    async def read_complete(self) -> bytes:
        """Return the body. A call that was cancelled may be repeated: what had arrived is kept.

        Raises `UpstreamInterrupted`, or `UpstreamProtocolError` above `max_response_bytes`.
        """
        size = sum(map(len, self._pieces))
        while piece := await read_available(self._response):
            self._pieces.append(piece)
            size += len(piece)
            if size > self._client.endpoint.max_response_bytes:
                self.abort()
                raise UpstreamProtocolError("the upstream's response is too large")
            # The first piece usually is all: this spares the read that would return nothing.
            if self._response.exhausted and self._response.decoder is None:
                break
        return b"".join(self._pieces)


class BufferedCompletion(HttpCompletion):
    """A completion that is not streamed. `translate` makes of its body what the client gets, and the usage."""

    __slots__ = ("_translate", "usage")

    def __init__(
        self, response: Response, client: HttpClient, translate: Callable[[bytes], tuple[bytes, TokenUsage | None]]
    ) -> None:
        super().__init__(response, client)
        self._translate = translate
        self.usage: TokenUsage | None = None

    async def read(self) -> Sequence[bytes]:
        """Return the body. A read that was cancelled may be repeated."""
        if self._ended:
            return ()
        body = await self.read_complete()
        self._ended = True
        try:
            translated, self.usage = self._translate(body)
        except UpstreamFailed as error:
            self.usage = error.usage
            raise
        return (translated,)
