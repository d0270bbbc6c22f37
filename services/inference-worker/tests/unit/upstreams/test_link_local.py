"""A connection to an address that no provider has is closed before anything is sent."""

import asyncio

import pytest
from inference_worker.providers.model import UpstreamFailed
from inference_worker.providers.transport import pool
from inference_worker.providers.transport.http import Endpoint, HttpClient


@pytest.mark.parametrize("refuse", [True, False])
async def test_nothing_is_sent_to_a_metadata_service(refuse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback stands in for it: the address of a name is only known when the connection is there."""
    monkeypatch.setattr(pool, "is_link_local", lambda address: address.is_loopback)
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(f"http://127.0.0.1:{port}", {"authorization": "Bearer sk-secret"}, refuse_link_local=refuse)
    async with server, HttpClient(endpoint) as client:
        with pytest.raises(UpstreamFailed) as failed:
            await client.post("/v1", b"a prompt")
        async with asyncio.timeout(30):
            first = await received.get()

    assert first == (b"" if refuse else b"P")
    assert ("link-local" in str(failed.value.__cause__)) is refuse


@pytest.mark.parametrize("refuse", [True, False])
async def test_a_refused_connection_takes_no_slot(refuse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "is_link_local", lambda _: refuse)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(f"http://127.0.0.1:{port}", {}, max_connections=1, refuse_link_local=True)
    async with server, HttpClient(endpoint) as client:
        for _ in range(3):
            with pytest.raises(UpstreamFailed) as failed:
                await client.post("/v1", b"a prompt")
            assert "in time" not in failed.value.message
