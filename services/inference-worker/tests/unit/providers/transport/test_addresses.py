"""Which address a call goes to, and by which way: queries, proxies, names with several addresses."""

import asyncio
import base64
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.model import UpstreamFailed
from inference_worker.providers.transport.http import Endpoint, HttpClient
from inference_worker.providers.transport.proxy import Proxy, proxy_for
from pydantic import ValidationError
from raw_http_server import OK, RawHttpServer, post

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_the_query_of_the_base_url_is_sent_with_every_call():
    server = RawHttpServer(OK)
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with HttpClient(
            Endpoint(f"http://127.0.0.1:{port}/openai/?api-version=2024-10-21&x=a%20b", {})
        ) as client:
            await post(client)

    assert server.heads[0].startswith(b"POST /openai/chat?api-version=2024-10-21&x=a%20b HTTP/1.1\r\n")


def test_a_fragment_is_refused():
    with pytest.raises(ValueError, match="fragment"):
        HttpClient(Endpoint("http://x/v1#a", {}))


def test_a_query_that_litellm_would_drop_is_refused():
    with pytest.raises(ValidationError, match="must have no query"):
        LitellmConfig.model_validate({"kind": "litellm", "litellm_provider": "azure", "base_url": "http://x?a=1"})


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("https://api.x/v1", {"HTTPS_PROXY": "http://p:3128"}, Proxy("p", 3128)),
        ("https://api.x/v1", {"https_proxy": "p:3128"}, Proxy("p", 3128)),
        ("https://api.x/v1", {"ALL_PROXY": "http://p"}, Proxy("p", 80)),
        ("https://api.x/v1", {"HTTP_PROXY": "http://p:3128"}, None),
        ("http://api.x/v1", {"HTTP_PROXY": "http://p:3128"}, Proxy("p", 3128)),
        ("https://api.x/v1", {"HTTPS_PROXY": ""}, None),
        ("https://api.x/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.x"}, None),
        ("https://api.x/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".x"}, None),
        ("https://api.x:8443/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.x:8443"}, None),
        ("https://api.x:8443/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.x:443"}, Proxy("p", 1)),
        ("https://api.x/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://notapi.x/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.x"}, Proxy("p", 1)),
        ("https://10.1.2.3/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.b, 10.0.0.0/8"}, None),
        ("https://[fd00::1]/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, None),
        ("https://localhost:1/v1", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://127.0.0.1:1/v1", {"HTTPS_PROXY": "http://p:1"}, None),
    ],
)
def test_proxies_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], expected: Proxy | None
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(urlsplit(url)) == expected


@pytest.mark.parametrize("proxy", ["socks5://p:1080", "https://p:443", "http://"])
def test_a_proxy_of_another_kind_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str):
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(ValueError, match="no other kind is supported"):
        HttpClient(Endpoint("https://api.x/v1", {}))


class ForwardProxy:
    """A proxy on loopback: tunnels lead to one port, whatever name was asked for; requests are answered by itself."""

    def __init__(self, target: int = 0, *, status: bytes = b"200 Connection established") -> None:
        self.target = target
        self.status = status
        self.heads: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if not head.startswith(b"CONNECT"):
                writer.write(OK)
                await reader.read(1000)
                return
            writer.write(b"HTTP/1.1 " + self.status + b"\r\nvia: p\r\n\r\n")
            if not self.status.startswith(b"2"):
                return
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()


@pytest.mark.usefixtures("fresh_tls_context")
async def test_a_call_with_tls_goes_through_a_tunnel_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, server_tls: ssl.SSLContext
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = RawHttpServer(OK)
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=server_tls) as listening:
        proxy = ForwardProxy(listening.sockets[0].getsockname()[1])
        async with await asyncio.start_server(proxy.handle, "127.0.0.1", 0) as forwarding:
            port = forwarding.sockets[0].getsockname()[1]
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:s%20t@127.0.0.1:{port}")
            async with HttpClient(Endpoint("https://provider.example/v1", {})) as client:
                assert await post(client) == b"{}"

    assert proxy.heads[0].startswith(b"CONNECT provider.example:443 HTTP/1.1\r\n")
    assert base64.b64encode(b"me:s t") in proxy.heads[0]
    assert b"proxy-authorization" not in server.heads[0]


async def test_a_call_without_tls_is_forwarded_by_the_proxy(monkeypatch: pytest.MonkeyPatch):
    proxy = ForwardProxy()
    async with await asyncio.start_server(proxy.handle, "127.0.0.1", 0) as forwarding:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{forwarding.sockets[0].getsockname()[1]}")
        async with HttpClient(Endpoint("http://provider.example/v1?a=1", {})) as client:
            assert await post(client) == b"{}"

    assert proxy.heads[0].startswith(b"POST http://provider.example/v1/chat?a=1 HTTP/1.1\r\nhost: provider.example\r\n")


async def test_a_tunnel_that_is_refused_is_an_upstream_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    proxy = ForwardProxy(status=b"407 Proxy Authentication Required")
    async with await asyncio.start_server(proxy.handle, "127.0.0.1", 0) as forwarding:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{forwarding.sockets[0].getsockname()[1]}")
        async with HttpClient(Endpoint("https://provider.example/v1", {})) as client:
            with pytest.raises(UpstreamFailed) as caught:
                await post(client)

    assert not caught.value.maybe_billed
    assert "407" in str(caught.value.__cause__)


async def test_the_second_address_of_a_name_is_used_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await _call_by_two_addresses(monkeypatch, closed.getsockname())


async def test_the_second_address_of_a_name_is_used_when_the_first_is_silent(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        # Its queue is full, so that the kernel drops further attempts, as a firewall does.
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(silent.getsockname())
            await _call_by_two_addresses(monkeypatch, silent.getsockname())
        finally:
            for one in waiting:
                one.close()


async def _call_by_two_addresses(monkeypatch: pytest.MonkeyPatch, first: tuple[str, int]) -> None:
    server = RawHttpServer(OK)
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0) as listening:
        addresses = [first, listening.sockets[0].getsockname()]

        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with HttpClient(Endpoint("http://two.example:1/v1", {})) as client:
            assert await post(client) == b"{}"
