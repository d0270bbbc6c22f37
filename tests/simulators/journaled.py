"""A provider that keeps a journal: one line when a call begins, one when it ends, each written before the next byte.

It serves OpenAI's chat completions and embeddings. The drills of `tests/chaos` compare its journal with metering's
settlements, so each call reports another token count. The model's name selects a behaviour, with options as in a query
string; embeddings know `wait` and `refuse`:

    answer     a completion
                 ?wait=0.2        seconds before the first byte
                 &chunks=4        chunks of a stream
                 &interval=0.05   seconds between them
                 &late=0.3        seconds between the finish reason and the usage
                 &part=reasoning  what the chunks hold: content, parts, reasoning, details, function_call or audio
                 &long=1          as many tokens as the request allows; else few
                 &schema=1        the prompt's tokens include those of `response_format`
    refuse     an error, without work                   ?status=500&wait=0
                 &code=insufficient_quota   the error's code
                 &after=3         `retry-after` in seconds; `after_ms` in milliseconds, `after_date` as a date
    poison     no answer; writes the port from which the call came to `<journal>.poison`, for a drill to kill the caller
    cut        chunks, then the connection drops        ?wait=1.5&chunks=0
                 &role=1          before them a chunk without content
                 &event=1         an error event instead of the drop
    switched   what the file `<journal>.switch` says for the name and the tenant or credential, or the name   ?name=dead

A first part of the path is the name of the upstream, in the journal as the credential is.

Run it: python tests/simulators/journaled.py --port 8101 --journal calls.jsonl
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web

if __name__ == "__main__":
    # A script has only its own folder on the path.
    sys.path.append(str(Path(__file__).parents[2]))

from tests.simulators.dialects import ERROR_TYPES, Mode

PROMPT_COUNTS = 199
"""Token counts of prompts are 1 to this; with those of the output, no two calls report the same."""
POISON_SECONDS = 600
SCHEMA_WORD = " a"
"""Clients fill schemas with it: one token in most vocabularies."""


@dataclass(slots=True)
class RunningCall:
    """One call: what it will report, and how far it came."""

    number: int
    mode: Mode
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    usage_sent: bool = False

    def usage(self) -> dict[str, Any]:
        """A third of the prompt is sound, and half of the output is reasoning; both have prices of their own."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"audio_tokens": self.prompt_tokens // 3},
            "completion_tokens_details": {"reasoning_tokens": self.completion_tokens // 2},
        }


class JournaledProvider:
    """The server's handlers. `journal` is a descriptor opened for appending, the others are files of drills."""

    def __init__(self, journal: int, poison: Path, switch: Path) -> None:
        self._journal = journal
        self._poison = poison
        self._switch = switch
        self._calls = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/{upstream}/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_get("/simulator", self._state)
        return app

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response({"received": self._calls})

    def _write(self, event: str, number: int, **fields: object) -> None:
        # One write for each line: a reader never sees half of one, and a kill loses none.
        entry = {"event": event, "call": number, "at": time.time(), **fields}
        os.write(self._journal, json.dumps(entry).encode() + b"\n")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = json.loads(await request.read())
        call = self._begin(request, body)
        how = "left"
        try:
            response, how = await self._respond(request, call, body)
        finally:
            self._write("end", call.number, how=how, usage_sent=call.usage_sent)
        return response

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = json.loads(await request.read())
        (text,) = body["input"]
        number, self._calls = self._calls, self._calls + 1
        call = RunningCall(number, Mode.parse(str(body["model"])), False, len(text) - number % PROMPT_COUNTS, 0)
        self._write_begin(call, body["model"], text, limit=len(text))
        how = "left"
        try:
            response, how = await _respond_with_vector(request, call)
        finally:
            self._write("end", call.number, how=how, usage_sent=call.usage_sent)
        return response

    def _begin(self, request: web.Request, body: dict[str, Any]) -> RunningCall:
        number, self._calls = self._calls, self._calls + 1
        limit = int(body.get("max_completion_tokens") or body.get("max_tokens") or 1)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        mode = self._mode(str(body["model"]), _last_prompt(body).partition(" ")[0], key)
        few = number // PROMPT_COUNTS % limit
        completion = limit - few if mode.number("long", 0) else 1 + few
        prompt = 1 + number % PROMPT_COUNTS
        if mode.number("schema", 0):
            prompt += json.dumps(body["response_format"]).count(SCHEMA_WORD)
        call = RunningCall(number, mode, bool(body.get("stream")), prompt, completion)
        where = {"upstream": request.match_info.get("upstream", ""), "key": key}
        self._write_begin(call, body["model"], _last_prompt(body), limit=limit, **where)
        return call

    def _mode(self, model: str, tenant: str, key: str) -> Mode:
        mode = Mode.parse(model)
        if mode.name != "switched":
            return mode
        modes = json.loads(self._switch.read_text()) if self._switch.exists() else {}
        name = mode.options["name"]
        return Mode.parse(modes.get(f"{name} {tenant}") or modes.get(f"{name} {key}") or modes.get(name, "answer"))

    def _write_begin(self, call: RunningCall, model: str, prompt: str, *, limit: int, **where: str) -> None:
        self._write(
            "begin",
            call.number,
            model=model,
            prompt=prompt,
            limit=limit,
            stream=call.stream,
            prompt_tokens=call.prompt_tokens,
            completion_tokens=call.completion_tokens,
            **where,
        )

    async def _respond(
        self, request: web.Request, call: RunningCall, body: dict[str, Any]
    ) -> tuple[web.StreamResponse, str]:
        """Send the response, and return it with how the call ended; a client that leaves raises."""
        await asyncio.sleep(call.mode.number("wait", 0))
        if call.mode.name == "refuse":
            return _refusal(call), "refused"
        if call.mode.name == "poison":
            await self._await_death(request)
        if call.stream:
            response = await _stream(request, call, body)
        elif call.mode.name != "cut":
            response = await _send_complete(request, call, body)
        if call.mode.name == "cut":
            if request.transport is not None and not call.mode.number("event", 0):
                request.transport.abort()
            return response if call.stream else web.Response(), "cut"
        return response, "answered"

    async def _await_death(self, request: web.Request) -> None:
        """Write where the call came from, and wait until its caller is gone."""
        assert request.transport is not None
        _, port, *_ = request.transport.get_extra_info("peername")
        with self._poison.open("a") as poison:
            poison.write(f"{port}\n")
        await asyncio.sleep(POISON_SECONDS)


async def _respond_with_vector(request: web.Request, call: RunningCall) -> tuple[web.StreamResponse, str]:
    await asyncio.sleep(call.mode.number("wait", 0))
    if call.mode.name == "refuse":
        return _refusal(call), "refused"
    usage = {"prompt_tokens": call.prompt_tokens, "total_tokens": call.prompt_tokens}
    vector = {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}
    response = await _send_document(request, call, {"object": "list", "data": [vector], "usage": usage})
    return response, "answered"


def _refusal(call: RunningCall) -> web.Response:
    options, headers = call.mode.options, dict[str, str]()
    status = int(call.mode.number("status", 500))
    kind = "server_error" if status == 500 else ERROR_TYPES.get(status)
    error = {"message": "refused by the journaled provider", "type": kind, "code": options.get("code")}
    headers |= {f"retry-{name.replace('_', '-')}": options[name] for name in ("after", "after_ms") if name in options}
    if "after_date" in options:
        headers["retry-after"] = formatdate(time.time() + float(options["after_date"]), usegmt=True)
    return web.json_response({"error": error}, status=status, headers=headers)


async def _send_complete(request: web.Request, call: RunningCall, body: dict[str, Any]) -> web.StreamResponse:
    message = {"role": "assistant", "content": " a" * call.completion_tokens}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = _envelope(call, body, "chat.completion") | {"choices": [choice], "usage": call.usage()}
    return await _send_document(request, call, document)


async def _send_document(request: web.Request, call: RunningCall, document: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    data = json.dumps(document).encode()
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data)
    call.usage_sent = True
    return response


async def _stream(request: web.Request, call: RunningCall, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    envelope = _envelope(call, body, "chat.completion.chunk")

    async def send(fields: dict[str, Any]) -> None:
        if not response.prepared:
            await response.prepare(request)
        await response.write(f"data: {json.dumps(envelope | fields)}\n\n".encode())

    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    if call.mode.number("role", 0):
        await send(choice({"role": "assistant", "content": ""}))
    for delta in _deltas(call):
        await send(choice(delta))
        await asyncio.sleep(call.mode.number("interval", 0))
    if call.mode.name == "cut":
        if call.mode.number("event", 0):
            await send({"error": {"message": "the journaled provider broke", "type": "server_error"}})
        return response
    await send(choice({}, "stop"))
    await asyncio.sleep(call.mode.number("late", 0))
    await send({"choices": [], "usage": call.usage()})
    call.usage_sent = True
    await response.write(b"data: [DONE]\n\n")
    return response


def _deltas(call: RunningCall) -> Iterator[dict[str, Any]]:
    """Yield chunks that hold about as many tokens as the call reports: ` a` is one token in most vocabularies."""
    chunks = int(call.mode.number("chunks", 4))
    for chunk in range(chunks):
        words = call.completion_tokens * (chunk + 1) // chunks - call.completion_tokens * chunk // chunks
        text, part = " a" * words, call.mode.options.get("part", "content")
        deltas: dict[str, dict[str, Any]] = {
            "content": {"content": text},
            "parts": {"content": [{"type": "text", "text": text}]},
            "reasoning": {"reasoning": text},
            "details": {"reasoning_details": [{"type": "reasoning.text", "text": text}]},
            "function_call": {"function_call": {"name": "f", "arguments": text}},
            "audio": {"audio": {"id": "audio_1", "data": "AAAA" * words, "transcript": text}},
        }
        yield deltas[part]


def _last_prompt(body: dict[str, Any]) -> str:
    content = body["messages"][-1].get("content")
    return content if isinstance(content, str) else ""


def _envelope(call: RunningCall, body: dict[str, Any], kind: str) -> dict[str, Any]:
    created = int(time.time())
    return {"id": f"chatcmpl-{call.number}", "object": kind, "created": created, "model": body.get("model")}


async def _serve(host: str, port: int, journal: Path) -> None:
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    app = JournaledProvider(descriptor, journal.with_suffix(".poison"), journal.with_suffix(".switch")).app()
    # Handlers are cancelled when their client disconnects: the journal says when that was.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A simulated model provider that keeps a journal.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8101)
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.host, arguments.port, arguments.journal))
