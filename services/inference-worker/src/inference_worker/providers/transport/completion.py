"""Completions that read from an HTTP response."""

from collections.abc import Callable, Sequence

from values.usage import TokenUsage

from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import HttpClient


class HttpCompletion:
    """What a streamed and a buffered completion have in common."""

    __slots__ = ("_client", "_ended", "_response", "usage_payload")

    def __init__(self, response: Response, client: HttpClient) -> None:
        self._response = response
        self._client = client
        self._ended = False
        self.usage_payload = b""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that have arrived and were not read, because the client is slow."""
        return self._response.buffered_bytes

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._response.close()


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
        if self._ended:
            return ()
        body, self.usage = self._translate(await self._client.read_all(self._response))
        self._ended = True
        return (body,)
