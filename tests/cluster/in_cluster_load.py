"""Streams and requests from inside of the cluster, through its Service: run by `python -c` in a pod with Python alone.

Each call has a connection of its own, so that the Service spreads the calls over all pods. It runs until SIGTERM, lets
the running calls end, and prints one line of JSON: how many calls there were, and each failure.
"""

import asyncio
import json
import os
import signal
import time
from typing import Any

HOST, PORT, KEY = os.environ["TARGET_HOST"], int(os.environ["TARGET_PORT"]), os.environ["ARGOSY_API_KEY"]
STREAMS, RATE = int(os.environ["STREAMS"]), float(os.environ["RATE"])
STREAMED, PLAIN = os.environ["STREAMED_MODEL"], os.environ["PLAIN_MODEL"]
CALL_SECONDS = 60
started_at = time.monotonic()
counts = {"streams": 0, "requests": 0}
failures: list[dict[str, Any]] = []


async def call(kind: str, model: str) -> None:
    began_at = time.monotonic()
    try:
        async with asyncio.timeout(CALL_SECONDS):
            problem = await send(model, stream=kind == "streams")
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
        problem = f"{type(error).__name__}: {error}"
    counts[kind] += 1
    if problem:
        seconds = round(time.monotonic() - began_at, 2)
        failures.append({"at": round(began_at - started_at, 1), "after": seconds, "kind": kind, "problem": problem})


async def send(model: str, *, stream: bool) -> str:
    """Return what was wrong with the answer, or an empty text."""
    messages = [{"role": "user", "content": "Go on."}]
    body = json.dumps({"model": model, "stream": stream, "max_tokens": 64, "messages": messages}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(HOST, PORT)
    try:
        writer.write(head.encode() + body)
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    status = answer.split(" ", 2)[1]
    if status != "200":
        return f"{status} {answer.rpartition(chr(10))[2][:300]}"
    if stream and "data: [DONE]" not in answer:
        return f"the stream was cut: {answer[-300:]}"
    return "" if stream or '"choices"' in answer else f"no answer: {answer[-300:]}"


async def keep_streaming(stop: asyncio.Event) -> None:
    while not stop.is_set():
        await call("streams", STREAMED)


async def main() -> None:
    stop, running = asyncio.Event(), set()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    streams = [asyncio.create_task(keep_streaming(stop)) for _ in range(STREAMS)]
    due = time.monotonic()
    while not stop.is_set():
        if due <= time.monotonic():
            running.add(task := asyncio.create_task(call("requests", PLAIN)))
            task.add_done_callback(running.discard)
            due += 1 / RATE
        else:
            await asyncio.sleep(due - time.monotonic())
    await asyncio.gather(*streams, *running)
    report = {**counts, "seconds": round(time.monotonic() - started_at), "failed": len(failures), "failures": failures}
    print(json.dumps(report), flush=True)


asyncio.run(main())
