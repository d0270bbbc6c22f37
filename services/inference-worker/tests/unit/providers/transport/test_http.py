"""Addresses, headers and TLS of the HTTP client."""

import ssl
from pathlib import Path

import pytest
from inference_worker.providers.model import UpstreamFailed
from inference_worker.providers.transport.http import Endpoint, HttpClient
from raw_http_server import CHUNKED, OK, RawHttpServer, post


async def test_the_request_names_path_host_and_length():
    server = RawHttpServer(OK)
    async with server.client() as client:
        await post(client, b'{"a": 1}')

    first, *headers = server.heads[0].decode().strip().split("\r\n")
    assert first == "POST /v1/chat HTTP/1.1"
    assert headers[0].startswith("host: 127.0.0.1:")
    assert {"content-type: application/json", "accept-encoding: identity", "content-length: 8"} < set(headers)


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"x\n": "a"}, {"x": "\x00"}])
def test_a_header_that_would_break_the_request_is_refused(headers: dict[str, str]):
    with pytest.raises(ValueError, match="control character"):
        HttpClient(Endpoint("http://x", headers))


@pytest.mark.parametrize("name", ["", "x y", "x:", "x\t", "ü", "Content-Length", "transfer-encoding", "connection"])
def test_a_header_with_an_invalid_or_reserved_name_is_refused(name: str):
    with pytest.raises(ValueError, match="invalid or reserved"):
        HttpClient(Endpoint("http://x", {name: "1"}))


@pytest.mark.parametrize(
    "url",
    ["http://x..y", f"http://{'x' * 64}/v1", "http://", "http:///v1", "https://bücher.example/v1", "http://x:99999/"],
)
def test_an_address_without_a_valid_host_is_refused(url: str):
    with pytest.raises(ValueError, match=r"host|[Pp]ort"):
        HttpClient(Endpoint(url, {}))


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://x", "x", 443),
        ("http://x", "x", 80),
        ("http://[::1]:8/v1", "::1", 8),
        ("https://X.y:8443/", "x.y", 8443),
    ],
)
def test_host_and_port_are_parsed_from_the_address(url: str, host: str, port: int):
    address = HttpClient(Endpoint(url, {})).address

    assert (address.host, address.port) == (host, port)


@pytest.mark.usefixtures("fresh_tls_context")
async def test_a_trusted_upstream_is_called_over_tls(
    certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = RawHttpServer(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")
    async with server.client(server_tls) as client:
        assert [await post(client) for _ in range(2)] == [b"{}"] * 2

    assert server.connections == 1


@pytest.mark.usefixtures("fresh_tls_context")
async def test_an_upstream_that_is_not_trusted_gets_no_request(server_tls: ssl.SSLContext):
    server = RawHttpServer(OK)
    async with server.client(server_tls) as client:
        with pytest.raises(UpstreamFailed) as caught:
            await post(client)

    assert not caught.value.maybe_billed
    assert not server.heads
