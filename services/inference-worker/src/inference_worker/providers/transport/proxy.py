"""HTTP proxies, by the environment variables that every HTTP client reads: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`."""

import asyncio
import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

MAX_HEAD_BYTES = 64 * 1024


class ProxyRefused(OSError):
    """The proxy did not open a tunnel."""


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The value of `proxy-authorization`; empty for none."""


def proxy_for(url: SplitResult) -> Proxy | None:
    """Return the proxy that the environment names for an address.

    Raises `ValueError` for one that cannot be used: a call that goes past it may not be allowed to leave.
    """
    proxies = getproxies_environment()
    named = proxies.get(url.scheme) or proxies.get("all")
    if not named or url.hostname is None or _bypasses(url, proxies):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        variable = f"{url.scheme.upper()}_PROXY or ALL_PROXY"
        raise ValueError(f"{variable} does not name a proxy with http://, and no other kind is supported")
    authorization = ""
    if proxy.username is not None:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    return Proxy(proxy.hostname, proxy.port or 80, authorization)


async def open_tunnel(
    transport: asyncio.Transport, handshake: "TunnelHandshake", proxy: Proxy, host: str, port: int
) -> None:
    """Ask the proxy for a tunnel. Raises `ProxyRefused`, which names the status."""
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {name} HTTP/1.1", f"host: {name}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    transport.write("\r\n".join([*lines, "", ""]).encode())
    await handshake.opened


class TunnelHandshake(asyncio.Protocol):
    """Reads what a proxy answers to CONNECT."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if self.opened.done() or (not end and len(head) <= MAX_HEAD_BYTES):
            return
        status = head.split(b"\r\n", 1)[0].split(b" ", 2)[1:2]
        if end and not rest and status and status[0].startswith(b"2"):
            self.opened.set_result(None)
        else:
            code = status[0].decode("latin-1")[:3] if status else "nothing"
            self.opened.set_exception(ProxyRefused(f"the proxy answered CONNECT with {code}"))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it
        if not self.opened.done():
            self.opened.set_exception(ProxyRefused("the proxy dropped the connection"))


def _bypasses(url: SplitResult, proxies: dict[str, str]) -> bool:
    """Tell whether `NO_PROXY` names the host, by its name, a suffix of it, or a network; this machine always is."""
    host = (url.hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(proxy_bypass_environment(url.netloc.rpartition("@")[2], proxies))
    entries = [entry.strip().strip("[]") for entry in proxies.get("no", "").split(",")]
    return address.is_loopback or "*" in entries or any(_holds(entry, address) for entry in entries)


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
