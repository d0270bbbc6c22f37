"""One call by grpc.aio, and by exchange frames written by hand, with its outcome in the same form."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argosy
import grpc
from argosy.exchange.v1.exchange_pb2 import Batch, Frame
from google.protobuf.descriptor import MethodDescriptor

GENERATED = Path(argosy.__path__[0])
OPEN = "/argosy.exchange.v1.Exchange/Open"
VERSION = ("argosy-exchange", "1")
DETAILS = "grpc-status-details-bin"
CODES = {code.value[0]: code.name for code in grpc.StatusCode}

Metadata = Sequence[tuple[str, str]]


def methods() -> dict[str, MethodDescriptor]:
    """Every method of every service of ours, by its path, without the exchange's own."""
    found = {}
    for path in sorted(GENERATED.rglob("*_pb2.py")):
        module = importlib.import_module(".".join(path.relative_to(GENERATED.parent).with_suffix("").parts))
        if not module.DESCRIPTOR.package.startswith("argosy."):
            continue  # a vendored service, on a port of its own
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[f"/{service.full_name}/{method.name}"] = method
    del found[OPEN]
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """The responses and the status of a call."""

    payloads: tuple[bytes, ...]
    code: str
    message: str
    details: bytes
    """A serialized google.rpc.Status, or nothing."""
    trailing: tuple[tuple[str, str | bytes], ...]
    """Trailing metadata without the details, sorted."""


Transport = Callable[[str, str, Sequence[bytes], Metadata, float | None], Awaitable[Outcome]]
"""Makes a call: target, path, requests, metadata, timeout in seconds."""


async def call_by_grpc(
    target: str, path: str, requests: Sequence[bytes], metadata: Metadata, timeout_seconds: float | None
) -> Outcome:
    """Make one gRPC call; on the wire, all method types are streams.

    A single request is sent with the start of the call: written later, it would race with an early error status, and
    gRPC's client would then report INTERNAL.
    """
    async with grpc.aio.insecure_channel(target) as channel:
        options: dict[str, Any] = {"metadata": tuple(metadata), "timeout": timeout_seconds}
        call: Any
        if len(requests) == 1:
            multi: Any = channel.unary_stream(path)
            call = multi(requests[0], **options)
        else:
            multi = channel.stream_stream(path)
            call = multi(iter(requests), **options)
        payloads = []
        try:
            async for payload in call:
                payloads.append(payload)  # noqa: PERF401 - responses before an error count
        except grpc.aio.AioRpcError:
            pass
        trailing = dict((await call.trailing_metadata()) or ())
        details: Any = trailing.pop(DETAILS, b"")
        code, message = await call.code(), await call.details()
    return Outcome(tuple(payloads), code.name, message or "", details, tuple(sorted(trailing.items())))


async def call_by_exchange(
    target: str, path: str, requests: Sequence[bytes], metadata: Metadata, timeout_seconds: float | None
) -> Outcome:
    """Make the only call of an exchange stream."""
    async with grpc.aio.insecure_channel(target) as channel:
        stream = channel.stream_stream(OPEN, Batch.SerializeToString, Batch.FromString)(metadata=(VERSION,))
        begin = Frame(
            call_id=1,
            method=path,
            timeout_microseconds=0 if timeout_seconds is None else max(1, int(timeout_seconds * 1e6)),
            metadata=[text for pair in metadata for text in pair],
        )
        await stream.write(Batch(frames=[begin, Frame(call_id=1, payloads=requests), Frame(call_id=1, end=True)]))
        payloads: list[bytes] = []
        while True:
            for frame in (await stream.read()).frames:  # type: ignore[attr-defined]
                if frame.payloads:
                    payloads += frame.payloads
                    await stream.write(Batch(frames=[Frame(call_id=1, credit=sum(map(len, frame.payloads)))]))
                if frame.end:
                    stream.cancel()
                    return Outcome(tuple(payloads), CODES[frame.code], frame.message, frame.details, _pairs(frame))


def _pairs(frame: Frame) -> tuple[tuple[str, str | bytes], ...]:
    texts = list(frame.metadata)
    return tuple(
        sorted(
            (key, base64.b64decode(value) if key.endswith("-bin") else value)
            for key, value in zip(texts[::2], texts[1::2], strict=True)
        )
    )


TRANSPORTS: dict[str, Transport] = {"grpc": call_by_grpc, "exchange": call_by_exchange}
