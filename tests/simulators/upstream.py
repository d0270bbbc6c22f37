"""A simulated provider: OpenAI's chat completions and embeddings, Anthropic's messages, and five APIs for scores.

The model's name (or the header `x-simulator-mode`) selects a behaviour, with options as in a query string:

    instant            a complete response at once          ?chunks=8
    paced              chunks at an interval                ?chunks=20&interval=0.02
    slow-first-byte    silence, then as instant             ?delay=1
    timeout            never a response
    silent             some chunks, then silence            ?chunks=3
    cut                some chunks, then the connection drops
    cut-before         the connection drops without a byte
    stale              as cut-before on every connection that was used before, else as instant
    no-usage           a response without usage
    no-end             some chunks, then an end without a reason
    no-done            a stream that ends without its end mark (OpenAI's)
    error-event        some chunks, then an error event
    error-first        an error event instead of the first chunk
    garbage            HTML with status 200
    garbage-middle     some chunks, then something that is not JSON
    huge               a body, or an event, without end     ?bytes=64000000
    crlf, dribble      as instant, with CRLF line ends, or one byte at a time
    unique             as instant, with another text each time; not as a stream
    tools              a tool call instead of text
    400 … 599          that status with the provider's usual error body   ?code=content_filter
    as-NAME            as the double of that provider answers, see `providers`   ?fail=first, ?fail=middle
                       for scores see `rerankers`   ?status=429, ?odd=missing

Any other name is `instant`. Run it: python tests/simulators/upstream.py --port 8100
In process: `async with UpstreamSimulator() as simulator: simulator.url`.
`GET /simulator` returns how many requests were received, are in flight, and were aborted by the caller.
"""

import argparse
import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

if __name__ == "__main__":
    # A script has only its own folder on the path.
    sys.path.append(str(Path(__file__).parents[2]))

from tests.simulators.dialects import INTERRUPTED, AnthropicDialect, Mode, OpenaiDialect, embeddings
from tests.simulators.providers import DOUBLES, Charged
from tests.simulators.rerankers import rerank

DROPPING = {"cut", "cut-before", "stale"}


@dataclass(frozen=True)
class ReceivedRequest:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class UpstreamSimulator:
    """The server. Use it as an async context manager; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    received: int = 0
    in_flight: int = 0
    aborted: int = 0
    requests: deque[ReceivedRequest] = field(default_factory=lambda: deque(maxlen=1000))
    journal: list[Charged] = field(default_factory=list)
    """What the doubles charged, in the order of the calls."""
    _runner: web.AppRunner | None = None
    padding: int = 0
    _peers: set[object] = field(default_factory=set)

    @property
    def connections(self) -> int:
        """How many connections carried a request."""
        return len(self._peers)

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/embeddings", self._embeddings)
        for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
            app.router.add_post(path, self._rerank)
        app.router.add_get("/simulator", self._state)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _state(self, request: web.Request) -> web.Response:
        counts = {"received": self.received, "in_flight": self.in_flight, "aborted": self.aborted}
        journal = [
            {
                "input_tokens": charged.input_tokens,
                "output_tokens": charged.output_tokens,
                "details": None if charged.details is None else charged.details._asdict(),
                "search_units": charged.search_units,
            }
            for charged in self.journal
        ]
        return web.json_response(counts | {"journal": journal})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._respond(request, OpenaiDialect())

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._respond(request, AnthropicDialect())

    async def _respond(self, request: web.Request, dialect: OpenaiDialect) -> web.StreamResponse:
        body = await self._read_request(request)
        mode = _mode(request, body)
        self.in_flight += 1
        try:
            replacement = await self._before_response(request, mode, dialect)
            if replacement is not None:
                return replacement
            if mode.name.startswith("as-"):
                return await self._answer_as_double(request, mode, stream=bool(body.get("stream")))
            if body.get("stream"):
                return await _stream(request, mode, dialect, body)
            if mode.name in INTERRUPTED:
                return await _partial_body(request, mode)
            return _json(dialect.completion(mode, body))
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += mode.name not in DROPPING
            raise
        finally:
            self.in_flight -= 1

    async def _answer_as_double(self, request: web.Request, mode: Mode, *, stream: bool) -> web.StreamResponse:
        answer = DOUBLES[mode.name.removeprefix("as-")].answer(stream=stream, fail=mode.options.get("fail", ""))
        self.journal.append(answer.charged)
        response = web.StreamResponse(headers={"content-type": answer.content_type})
        await response.prepare(request)
        for piece in answer.pieces:
            await response.write(piece)
        return response

    async def _read_request(self, request: web.Request) -> dict[str, Any]:
        body = json.loads(await request.read())
        self.received += 1
        self.requests.append(ReceivedRequest(request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        return body if isinstance(body, dict) else {}

    async def _before_response(
        self, request: web.Request, mode: Mode, dialect: OpenaiDialect
    ) -> web.StreamResponse | None:
        """Return what is sent instead of a completion, if anything."""
        peer = request.transport.get_extra_info("peername") if request.transport else None
        reused, self._peers = peer in self._peers, self._peers | {peer}
        if mode.name.isdigit():
            headers = {"retry-after": "7", "location": "/v1/chat/completions"}
            error = dialect.error(int(mode.name)) | {"padding": "x" * self.padding}
            if "code" in mode.options:
                error["error"]["code"] = mode.options["code"]
            return web.json_response(error, status=int(mode.name), headers=headers)
        if mode.name == "timeout":
            await asyncio.sleep(3600)
        elif mode.name == "slow-first-byte":
            await asyncio.sleep(mode.number("delay", 1))
        elif mode.name == "garbage":
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        elif mode.name == "cut-before" or (mode.name == "stale" and reused):
            return _drop(request)
        return None

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await self._read_request(request)
        mode = _mode(request, body)
        replacement = await self._before_response(request, mode, OpenaiDialect())
        return replacement or _json(embeddings(mode, body))

    async def _rerank(self, request: web.Request) -> web.StreamResponse:
        body = await self._read_request(request)
        mode = _mode(request, body)
        replacement = await self._before_response(request, mode, OpenaiDialect())
        if replacement is not None:
            return replacement
        answer = rerank(request.path, mode, body)
        self.journal.append(answer.charged)
        return web.json_response(answer.document, status=answer.status, headers=answer.headers)


async def _stream(request: web.Request, mode: Mode, dialect: OpenaiDialect, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    if mode.name == "huge":
        for _ in range(int(mode.number("bytes", 64_000_000)) // 64_000):
            await response.write(b"data: " + b"x" * 64_000)
        return response
    if mode.name in {"paced", *INTERRUPTED}:
        async for piece in _paced(
            dialect.events(mode, body), mode.number("interval", 0.02 if mode.name == "paced" else 0)
        ):
            await response.write(piece)
    else:
        stream = b"".join(dialect.events(mode, body))
        if mode.name == "crlf":
            stream = stream.replace(b"\n", b"\r\n")
        for piece in [stream[i : i + 1] for i in range(len(stream))] if mode.name == "dribble" else [stream]:
            await response.write(piece)
    if mode.name == "silent":
        await asyncio.sleep(3600)
    if mode.name == "cut":
        _drop(request)
    return response


async def _paced(events: list[bytes], interval_seconds: float) -> AsyncIterator[bytes]:
    for event in events:
        yield event
        await asyncio.sleep(interval_seconds)


async def _partial_body(request: web.Request, mode: Mode) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
    await response.prepare(request)
    await response.write(b'{"id": "half')
    if mode.name == "silent":
        await asyncio.sleep(3600)
    _drop(request)
    return response


def _drop(request: web.Request) -> web.Response:
    """Break the connection, so the response is not sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), content_type="application/json")


def _mode(request: web.Request, body: dict[str, Any]) -> Mode:
    return Mode.parse(request.headers.get("x-simulator-mode") or str(body.get("model", "")))


async def _serve(host: str, port: int) -> None:
    async with UpstreamSimulator(host, port) as simulator:
        print(f"upstream simulator on {simulator.url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A simulated model provider.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.host, arguments.port))
