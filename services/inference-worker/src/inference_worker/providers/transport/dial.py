"""Connects to the first address of a name that answers, as RFC 8305 says ("Happy Eyeballs")."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from aiohappyeyeballs import start_connection

from inference_worker.providers.transport.proxy import Proxy, TunnelHandshake, open_tunnel

ATTEMPT_DELAY_SECONDS = 0.25
"""How long an address may take before the next is tried beside it: the RFC's own value."""

P = TypeVar("P", bound=asyncio.Protocol)


async def dial(
    protocol: Callable[[], P], host: str, port: int, *, tls: ssl.SSLContext | None, proxy: Proxy | None = None
) -> tuple[asyncio.Transport, P]:
    """Connect, through a tunnel of `proxy` if there is one. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    if proxy is None:
        sock = await _connect(host, port)
        return await loop.create_connection(protocol, sock=sock, ssl=tls, server_hostname=host if tls else None)
    sock = await _connect(proxy.host, proxy.port)
    transport, handshake = await loop.create_connection(TunnelHandshake, sock=sock)
    try:
        await open_tunnel(transport, handshake, proxy, host, port)
        tunnelled = protocol()
        secured = await loop.start_tls(transport, tunnelled, tls, server_hostname=host) if tls else transport
    except BaseException:
        transport.abort()
        raise
    if secured is None:
        raise ConnectionResetError("the tunnel was closed")
    if secured is transport:
        transport.set_protocol(tunnelled)
    tunnelled.connection_made(secured)
    return secured, tunnelled


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return await start_connection(
        addresses, happy_eyeballs_delay=ATTEMPT_DELAY_SECONDS if len(addresses) > 1 else None, interleave=1
    )
