"""Keepalive at both ends detects a peer that is frozen or unplugged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from chassis.errors import Unavailable
from chassis.grpc import Channel, server
from chassis.grpc import channel as channels
from chassis.grpc.channel import CHANNEL_OPTIONS
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving_at
from chassis.testing.network import TcpProxy

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text
from libs.rpc.tests.leaks import held, no_leak, until_back_to

TIMES = {"grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"}


def hurried(options: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The same, with 50 times less patience: nothing that is not there already."""
    return [(key, value // 50 if key in TIMES else value) for key, value in options]


async def test_a_frozen_server_is_disconnected(echo: EchoService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNEL_OPTIONS", hurried(CHANNEL_OPTIONS))
    async with (
        no_leak(),
        serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as serving,
        TcpProxy(serving.port) as line,
        Channel(f"127.0.0.1:{line.port}", "echo") as channel,
    ):
        await channel.channel_ready()
        stub = EchoStub(channel)
        with as_caller(a_caller()):
            line.freeze()
            async with asyncio.timeout(30):
                with pytest.raises(Unavailable):
                    await stub.Echo(text("a"), timeout=600)
            await line.cut()
            await line.mend()
            assert (await stub.Echo(text("b"))).value == "b!"


async def test_a_frozen_client_is_disconnected_and_its_calls_end(
    echo: EchoService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SERVER_OPTIONS", hurried(server.SERVER_OPTIONS))
    async with serving_at("127.0.0.1:0", [(register, echo, SERVICE)]) as serving:
        before = held()
        async with TcpProxy(serving.port) as line, Channel(f"127.0.0.1:{line.port}", "echo") as channel:
            with as_caller(a_caller()):
                call = asyncio.create_task(EchoStub(channel).Echo(text("hang"), timeout=600))
                await echo.reached.wait()
                line.freeze()
                async with asyncio.timeout(30):
                    await echo.cleaned.wait()
                call.cancel()
                await asyncio.wait([call])
                del call
        await until_back_to(before)
