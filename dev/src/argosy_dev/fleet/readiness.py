"""Probes of readiness and of life: one cheap request per protocol, with the standard library alone.

The supervisor lives as long as the fleet; four client libraries would cost it memory for a few bytes of traffic.
"""

import asyncio
import struct

from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.process_spec import Probe

_TIMEOUT_SECONDS = 2.0


def expect_response(host: str, port: int, request: bytes, *responses: bytes, offset: int = 0) -> Probe:
    """Ready when the response to `request` has one of `responses` (of equal length) at `offset`."""
    size = offset + len(responses[0])

    async def probe() -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return (await _exchange(host, port, request, size))[offset:] in responses
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    return probe


def redis(host: str, port: int) -> Probe:
    """Ready when the server answers PING; one that asks for a password is ready too."""
    return expect_response(host, port, b"PING\r\n", b"+PONG", b"-NOAU")


def redis_answers(host: str, port: int) -> Probe:
    """Whether the server answers PING, with an error too: it may be loading its data or running a script."""
    return expect_response(host, port, b"PING\r\n", b"+", b"-")


def kafka(host: str, port: int) -> Probe:
    """Ready when the broker answers ApiVersions: it accepts connections once the controller has registered it."""
    body = struct.pack(">hhih", 18, 0, 7, -1)  # ApiVersions v0, correlation 7, no client id
    return expect_response(host, port, struct.pack(">i", len(body)) + body, struct.pack(">ih", 7, 0), offset=4)


def postgres(host: str, port: int) -> Probe:
    """Ready when the start packet is answered by an authentication request, not by "starting up"."""
    return expect_response(host, port, _postgres_start_packet(), b"R")


def postgres_answers(host: str, port: int) -> Probe:
    """Whether the start packet is answered, with an error too: it may recover from a crash, or be full."""
    return expect_response(host, port, _postgres_start_packet(), b"R", b"E")


def _postgres_start_packet() -> bytes:
    body = struct.pack(">i", 196_608) + b"user\0postgres\0database\0postgres\0\0"
    return struct.pack(">i", len(body) + 4) + body


def http(port: int, path: str) -> Probe:
    """Ready when GET `path` on the loopback returns 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()
    return expect_response(LOOPBACK, port, request, b"200", offset=len("HTTP/1.1 "))


async def _exchange(host: str, port: int, request: bytes, size: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        return await reader.readexactly(size)
    finally:
        writer.close()
