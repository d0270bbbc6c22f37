"""Is it serving? One cheap question per protocol, asked with the standard library alone.

The supervisor lives as long as the fleet, so it should not carry four client libraries for questions of a few bytes.
"""

from __future__ import annotations

import asyncio
import struct

from argosy_dev.part import Probe
from argosy_dev.ports import LOOPBACK

_SECONDS = 2.0


def talks(host: str, port: int, question: bytes, answer: bytes, at: int = 0) -> Probe:
    """Ready when `question` is answered by bytes that hold `answer` at the offset `at`."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(_SECONDS):
                return (await _ask(host, port, question, at + len(answer)))[at:] == answer
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    return probe


def redis(host: str, port: int) -> Probe:
    """Ready when PING is answered; a server that asks for a password also serves."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(_SECONDS):
                return await _ask(host, port, b"PING\r\n", 5) in (b"+PONG", b"-NOAU")
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    return probe


def kafka(host: str, port: int) -> Probe:
    """Ready when the broker answers ApiVersions: it opens its door only once the controller has let it in."""
    body = struct.pack(">hhih", 18, 0, 7, -1)  # ApiVersions v0, correlation 7, no client id
    return talks(host, port, struct.pack(">i", len(body)) + body, struct.pack(">ih", 7, 0), at=4)


def postgres(host: str, port: int) -> Probe:
    """Ready when a start packet is answered by a question for the password, not by "starting up"."""
    body = struct.pack(">i", 196_608) + b"user\0postgres\0database\0postgres\0\0"
    return talks(host, port, struct.pack(">i", len(body) + 4) + body, b"R")


def http(port: int, path: str) -> Probe:
    """Ready when GET `path` on the loopback answers 200."""
    question = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()
    return talks(LOOPBACK, port, question, b"200", at=len("HTTP/1.1 "))


async def _ask(host: str, port: int, question: bytes, size: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(question)
        return await reader.readexactly(size)
    finally:
        writer.close()
