"""Random calls through a real exchange: each is tagged, and its responses must be its own, in order, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from chassis.errors import DeadlineExceeded, RemoteError, Unavailable
from google.protobuf.wrappers_pb2 import StringValue as Text

SERVICE = "test.LoadGenerator"
SHAPES = {
    "One": grpc.unary_unary_rpc_method_handler,
    "Many": grpc.unary_stream_rpc_method_handler,
    "Sum": grpc.stream_unary_rpc_method_handler,
    "Echo": grpc.stream_stream_rpc_method_handler,
}
PAD = 8 * 1024


class LoadGenerator:
    """Responds with the tag of the request; counts how often each call was started."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()

    async def one(self, request: Text, context: Any) -> Text:
        self.begun[request.value.split(" ")[0]] += 1
        await asyncio.sleep(0)
        return request

    async def many(self, request: Text, context: Any) -> AsyncIterator[Text]:
        tag, count = request.value.split(" ")
        self.begun[tag] += 1
        for number in range(int(count)):
            yield Text(value=f"{tag} {number} {'x' * PAD}")

    async def sum(self, requests: AsyncIterator[Text], context: Any) -> Text:
        tags = [request.value.split(" ") async for request in requests]
        self.begun[tags[0][0] if tags else ""] += 1
        assert [int(number) for _, number, _ in tags] == list(range(len(tags)))
        assert len({tag for tag, _, _ in tags}) <= 1
        return Text(value=f"{tags[0][0]} {len(tags)}" if tags else " 0")

    async def echo(self, requests: AsyncIterator[Text], context: Any) -> AsyncIterator[Text]:
        first = True
        async for request in requests:
            if first:
                self.begun[request.value.split(" ")[0]] += 1
                first = False
            yield request


def register(generator: LoadGenerator, server: Any) -> None:
    handlers = {
        name: shape(
            getattr(generator, name.lower()),
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
        for name, shape in SHAPES.items()
    }
    server.add_registered_method_handlers(SERVICE, handlers)


@dataclass(frozen=True, slots=True)
class Plan:
    """One call: its shape, the number of messages, and the behaviour of its caller."""

    shape: str
    count: int
    manner: str  # "whole", "slow", "cancel", "leave" or "hurry"


class Callers:
    """Makes planned calls and records how each ended."""

    def __init__(self, channel: Any, may_break: bool) -> None:
        """`may_break`: connections are cut, so that calls may end `Unavailable`."""
        self.may_break = may_break
        codec = {"request_serializer": Text.SerializeToString, "response_deserializer": Text.FromString}
        self._one = channel.unary_unary(f"/{SERVICE}/One", **codec)
        self._many = channel.unary_stream(f"/{SERVICE}/Many", **codec)
        self._sum = channel.stream_unary(f"/{SERVICE}/Sum", **codec)
        self._echo = channel.stream_stream(f"/{SERVICE}/Echo", **codec)
        self.endings: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def make(self, tag: str, plan: Plan) -> None:
        """Make one call; it ends in a way that is known, or it is wrong."""
        task = asyncio.create_task(getattr(self, f"_make_{plan.shape.lower()}")(tag, plan))
        if plan.manner == "cancel":
            for _ in range(plan.count % 7):
                await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            self._allow(plan.manner == "cancel", tag, plan, error)
        except DeadlineExceeded as error:
            self._allow(plan.manner == "hurry", tag, plan, error)
        except Unavailable as error:
            self._allow(self.may_break or plan.manner == "hurry", tag, plan, error)
        except RemoteError as error:
            self._allow(False, tag, plan, error)
        self.endings[tag] += 1

    def _allow(self, allowed: bool, tag: str, plan: Plan, error: BaseException) -> None:
        if not allowed:
            self.wrong.append(f"{tag} {plan}: {error!r}")

    def _expect(self, found: str, wanted: str) -> None:
        if found != wanted:
            self.wrong.append(f"{found[:40]!r} instead of {wanted[:40]!r}")

    @staticmethod
    def _timeout(plan: Plan) -> float:
        return 0.02 if plan.manner == "hurry" else 10.0

    async def _make_one(self, tag: str, plan: Plan) -> None:
        answer = await self._one(Text(value=f"{tag} 0"), timeout=self._timeout(plan))
        self._expect(answer.value, f"{tag} 0")

    async def _make_many(self, tag: str, plan: Plan) -> None:
        call = self._many(Text(value=f"{tag} {plan.count}"), timeout=self._timeout(plan))
        await self._read(call, tag, plan)

    async def _make_sum(self, tag: str, plan: Plan) -> None:
        answer = await self._sum(_requests(tag, plan), timeout=self._timeout(plan))
        self._expect(answer.value, f"{tag} {plan.count}" if plan.count else " 0")

    async def _make_echo(self, tag: str, plan: Plan) -> None:
        await self._read(self._echo(_requests(tag, plan), timeout=self._timeout(plan)), tag, plan)

    async def _read(self, call: Any, tag: str, plan: Plan) -> None:
        number = 0
        async for message in call:
            self._expect(message.value[: len(f"{tag} {number} ")], f"{tag} {number} ")
            number += 1
            if plan.manner == "slow":
                await asyncio.sleep(0.001)
            if plan.manner == "leave" and number > plan.count // 2:
                return
        if number != plan.count:
            self.wrong.append(f"{tag}: {number} messages instead of {plan.count}")


async def _requests(tag: str, plan: Plan) -> AsyncIterator[Text]:
    for number in range(plan.count):
        yield Text(value=f"{tag} {number} {'y' * PAD}")
        if plan.manner == "slow":
            with suppress(TimeoutError):
                await asyncio.sleep(0.001)
