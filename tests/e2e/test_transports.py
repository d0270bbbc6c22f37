"""Every method answers alike by ordinary gRPC and by the exchange: well, with an error, to strangers, and too late."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import pytest
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, DeadlineExceeded
from chassis.grpc import Channel, OrdinaryChannel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from tests.contract.two_ways import WAYS, Outcome
from tests.e2e.cases import CASES, MODEL, UPSTREAM_MODEL, chat
from tests.e2e.scenes import METHODS, Library, Scene, target_of
from tests.fleet import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]

every_method = pytest.mark.parametrize("path", METHODS, ids=lambda path: ".".join(path.split(".")[-1].split("/")))
CHANCE = re.compile(r"\b(ten|prj|key|req|evt|txn|prc|vs)_[0-9a-f]{32}|\b(file)-[0-9a-f]{32}")
WIRE_CHANCE = re.compile(rb'"id": ?"[^"]*"|"created": ?\d+')
A_WHILE = 20.0


@pytest.fixture(scope="module")
def library(fleet: Fleet) -> Library:
    async def build() -> Library:
        await fleet.offer(MODEL, model=UPSTREAM_MODEL)
        return await Library.build(fleet)

    return asyncio.run(build())


def test_every_method_has_a_case() -> None:
    assert CASES.keys() == METHODS.keys()


def plain(message: Message) -> dict[str, Any]:
    """A message without what chance or the clock decides: ids, times, durations."""
    found: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        many = list(value) if descriptor.is_repeated else [value]
        found[descriptor.name] = [_plain(descriptor, one) for one in many]
    return found


def _plain(descriptor: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        kind = value.DESCRIPTOR.name
        return kind if kind in {"Timestamp", "Duration"} else plain(value)
    if isinstance(value, bytes):
        return WIRE_CHANCE.sub(b"", value)
    return CHANCE.sub("an id", value) if isinstance(value, str) else value


def whole(method: MethodDescriptor, payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """The responses of a call; what a stream happened to send in pieces is joined."""
    kind = message_factory.GetMessageClass(method.output_type)
    joined: list[dict[str, Any]] = []
    for response in (plain(kind.FromString(payload)) for payload in payloads):
        if joined and response.keys() == joined[-1].keys() == {"chunk"}:
            joined[-1]["chunk"][0]["payloads"] += response["chunk"][0]["payloads"]
        elif joined and response.keys() == joined[-1].keys() == {"data"}:
            joined[-1]["data"][0] += response["data"][0]
        else:
            joined.append(response)
    return joined


async def both(scene: Scene, path: str, requests: Sequence[bytes], seconds: float | None = A_WHILE) -> list[Outcome]:
    """Make the same call both ways."""
    target = target_of(scene.fleet, path)
    return [await way(target, path, requests, scene.metadata, seconds) for way in WAYS.values()]


@every_method
async def test_a_good_request_has_the_same_answer(fleet: Fleet, library: Library, path: str) -> None:
    answers = []
    for way in WAYS.values():
        scene = Scene.of(fleet, library)
        wire = [request.SerializeToString() for request in await CASES[path](scene)]
        outcome = await way(target_of(fleet, path), path, wire, scene.metadata, A_WHILE)
        answers.append((whole(METHODS[path], outcome.payloads), *astuple(outcome)[1:]))

    assert answers[0][1:] == ("OK", "", b"", ())
    assert answers[0][0]
    assert answers[0] == answers[1]


@every_method
async def test_a_request_that_says_nothing_has_the_same_answer_or_refusal(
    fleet: Fleet, library: Library, path: str
) -> None:
    ordinary, exchanged = await both(Scene.of(fleet, library), path, [b""])

    assert whole(METHODS[path], ordinary.payloads) == whole(METHODS[path], exchanged.payloads)
    assert astuple(ordinary)[1:] == astuple(exchanged)[1:]
    if ordinary.code != "OK":
        assert Status.FromString(ordinary.details).details[0].type_url.endswith("google.rpc.ErrorInfo")


@pytest.mark.parametrize("path", [path for path, method in METHODS.items() if method.client_streaming])
async def test_a_stream_of_no_requests_has_the_same_refusal(fleet: Fleet, library: Library, path: str) -> None:
    ordinary, exchanged = await both(Scene.of(fleet, library), path, [])

    assert ordinary == exchanged
    assert (ordinary.code, bool(ordinary.details)) == ("INVALID_ARGUMENT", True)


@every_method
async def test_bytes_that_are_no_message_have_the_same_refusal(fleet: Fleet, library: Library, path: str) -> None:
    ordinary, exchanged = await both(Scene.of(fleet, library), path, [b"\xff\xff\xff\xff"])

    assert ordinary == exchanged
    assert ordinary.code == "INVALID_ARGUMENT"
    assert ordinary.details


@every_method
async def test_strangers_have_the_same_refusal(fleet: Fleet, path: str) -> None:
    forged = PrincipalSigner("x" * 40, "gateway", SystemClock()).sign(Principal(tenant_id="ten_victim"))

    for metadata in ([], [("argosy-principal", "garbage")], [("argosy-principal", forged)]):
        ordinary, exchanged = [await way(target_of(fleet, path), path, [b""], metadata, 5) for way in WAYS.values()]

        assert ordinary == exchanged
        assert (ordinary.code, ordinary.payloads) == ("UNAUTHENTICATED", ())
        assert b"PRINCIPAL_INVALID" in ordinary.details


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_whose_answer_takes_too_long_ends_when_its_time_is_up(
    fleet: Fleet, library: Library, way: str
) -> None:
    await fleet.offer("sim-two-ways-late", model="timeout")
    scene, path = Scene.of(fleet, library), next(path for path in METHODS if path.endswith("/Generate"))
    (request,) = await CASES[path](scene)
    request.model, request.body = "sim-two-ways-late", chat("sim-two-ways-late")  # type: ignore[attr-defined]
    began = time.monotonic()

    outcome = await WAYS[way](target_of(fleet, path), path, [request.SerializeToString()], scene.metadata, 1.0)

    assert 0.9 < time.monotonic() - began < 2
    assert outcome.code == "DEADLINE_EXCEEDED"


Said = tuple[list[dict[str, Any]], tuple[object, ...] | None]


async def said(
    carrier: type[Channel | OrdinaryChannel],
    scene: Scene,
    path: str,
    requests: Sequence[Message],
    seconds: float = A_WHILE,
) -> Said:
    """What code that calls a peer is given: responses, or an exception."""
    method = METHODS[path]
    shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    caller = Caller(scene.principal, scene.metadata[0][1], new_id("req_"))
    kind = message_factory.GetMessageClass(method.output_type)
    payloads: list[bytes] = []
    with as_caller(caller):
        async with carrier(target_of(scene.fleet, path), "the peer") as channel:
            await channel.channel_ready()
            stub = getattr(channel, shape)(path, type(requests[0]).SerializeToString, kind.FromString)
            call = stub(iter(requests) if method.client_streaming else requests[0], timeout=seconds)
            try:
                if method.server_streaming:
                    payloads += [response.SerializeToString() async for response in call]
                else:
                    payloads.append((await call).SerializeToString())
            except ArgosyError as error:
                told = (
                    type(error),
                    error.kind,
                    error.reason,
                    CHANCE.sub("an id", error.message),
                    error.param,
                    error.retry_after,
                )
                return whole(method, payloads), told
    return whole(method, payloads), None


@every_method
async def test_who_calls_by_either_channel_is_told_the_same(fleet: Fleet, library: Library, path: str) -> None:
    good: list[Said] = []
    bad: list[Said] = []
    for carrier in (OrdinaryChannel, Channel):
        scene = Scene.of(fleet, library)
        good.append(await said(carrier, scene, path, requests := await CASES[path](scene)))
        bad.append(await said(carrier, Scene.of(fleet, library), path, [type(requests[0])()]))

    assert good[0] == good[1]
    assert good[0][1] is None
    assert bad[0] == bad[1]


@every_method
async def test_a_call_whose_time_is_over_ends_alike(fleet: Fleet, library: Library, path: str) -> None:
    requests = await CASES[path](Scene.of(fleet, library))

    ordinary, exchanged = [
        await said(carrier, Scene.of(fleet, library), path, requests, -1) for carrier in (OrdinaryChannel, Channel)
    ]

    assert ordinary == exchanged
    assert ordinary[1] is not None
    assert ordinary[1][0] is DeadlineExceeded
