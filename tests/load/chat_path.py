"""CPU of the orchestrator's own code for one chat, in one process: its peers answer at once, with prepared messages.

.venv/bin/python -m tests.load.chat_path [--rounds 40] 2> /dev/null

Two fleets differ by tens of percent from one short load to the next; this differs by a few. Messages are read and
written as on the wire, and nothing is sent: no socket, no Redis, no Postgres. For another commit put its sources first:
PYTHONPATH=OTHER/services/orchestrator/src:OTHER/libs/values/src:OTHER/libs/chassis/src.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

import uvloop
from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2
from argosy.metering.v1 import metering_pb2
from argosy.orchestration.v1 import orchestration_pb2
from chassis.clock import SystemClock
from chassis.telemetry import configure_logs
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_signer
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.generate import ChatCompletions
from orchestrator.chat.grpc import generate
from orchestrator.chat.infer import Disconnects
from orchestrator.reservations.metering_client import GrpcMeteringClient
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.charge import CacheCharges
from orchestrator.response_cache.charge_together import GroupedCharges
from orchestrator.response_cache.look_up import CacheLimits, ResponseCache
from orchestrator.response_cache.model import CachePolicy, ExactMode
from orchestrator.response_cache.policy import by_route
from orchestrator.response_cache.serve import ChatCache
from orchestrator.routing.choose import RouteCache
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.model import RequestUsage
from orchestrator.usage.protos import request_usage_to_proto
from orchestrator.usage.record import UsageRecorder
from orchestrator.workers.worker_client import GrpcWorkerClient

from services.orchestrator.tests.fake_answers import FakeAnswerStore
from services.orchestrator.tests.fakes import DEMO_ROUTES, FakeRetrievalClient, FakeRouteStore, FakeUsageOutbox
from services.orchestrator.tests.harness import LIMITS
from tests.load.payloads import OUTPUT_TOKENS, PROMPT_TOKENS, chat_body, complete_response

MODEL, PRICE_KEY = "smollm2", "local/smollm2-135m-instruct"
REQUESTS = 200
"""Of one round."""
WAYS = {"without the cache": ExactMode.ON_REQUEST, "miss": ExactMode.ON}


@dataclass
class AnsweringChannel:
    """A channel whose methods answer with prepared bytes; requests are rendered, and dropped."""

    answers: Mapping[str, Sequence[bytes]]
    """By the last part of a method's path."""
    ready: bool = True

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        async def call(request: Message, timeout: float) -> Any:
            request_serializer(request)
            return response_deserializer(self.answers[_method(path)][0])

        return call

    def stream_stream(self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        def call(timeout: float) -> AnsweringCall:
            return AnsweringCall(iter(self.answers[_method(path)]), request_serializer, response_deserializer)

        return call

    unary_stream = stream_unary = unary_unary


class AnsweringCall:
    """A stream of prepared messages."""

    def __init__(self, messages: Any, render: Callable[[Any], bytes], parse: Callable[[bytes], Any]) -> None:
        self._messages = messages
        self._render = render
        self._parse = parse

    async def write(self, message: Any) -> None:
        self._render(message)

    async def read(self) -> Any:
        return self._parse(next(self._messages))

    def cancel(self) -> None:
        """Nothing runs."""


class RenderingOutbox(FakeUsageOutbox):
    """Renders events, and keeps none."""

    async def write(self, usage: RequestUsage) -> None:
        request_usage_to_proto(usage, Timestamp()).SerializeToString()


class Context:
    """The server's side of a call."""

    async def write(self, message: Message) -> None:
        message.SerializeToString()

    def time_remaining(self) -> float:
        return 300.0


def _method(path: str) -> str:
    return path.rpartition("/")[2]


def answers() -> dict[str, list[bytes]]:
    """A reservation, and a plan with one call that succeeds."""
    reserved = metering_pb2.ReserveResponse(held=common_pb2.Money(nano_usd=10**9))
    price = reserved.prices.add(price_key=PRICE_KEY, version="prc_1")
    price.input_per_million.nano_usd = price.output_per_million.nano_usd = 1_000_000
    ended = inference_pb2.InferResponse()
    attempt = ended.finished.attempts.add(number=1, outcome=inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED)
    attempt.usage.source = common_pb2.USAGE_SOURCE_REPORTED
    attempt.usage.input_tokens, attempt.usage.output_tokens = PROMPT_TOKENS, OUTPUT_TOKENS
    attempt.first_byte_after.nanos, attempt.duration.nanos = 1_000_000, 2_000_000
    body = complete_response().partition(b"\r\n\r\n")[2]
    events = (
        inference_pb2.InferResponse(started=inference_pb2.Started(candidate=0)),
        inference_pb2.InferResponse(chunk=inference_pb2.Chunk(payloads=[body])),
        ended,
    )
    return {"Reserve": [reserved.SerializeToString()], "Infer": [event.SerializeToString() for event in events]}


def completions(mode: ExactMode) -> ChatCompletions:
    """Wire the use case as the service does, between peers that answer at once."""
    clock = SystemClock()
    channel: Any = AnsweringChannel(answers())
    tasks = BackgroundTasks(1_000, lambda _: None)
    outbox = RenderingOutbox()
    recorder = UsageRecorder(outbox, tasks, timedelta(minutes=1))
    metering = GrpcMeteringClient(channel, a_signer())
    reservations = Reservations(metering=metering, recorder=recorder, tasks=tasks, limits=LIMITS)
    hits = HitRecorder(outbox, tasks)
    charges = CacheCharges(
        reservations, recorder, hits, GroupedCharges(metering, recorder, hits, tasks, LIMITS.reserve_timeout)
    )
    cache = ResponseCache(FakeAnswerStore(clock), CacheLimits(262_144, timedelta(minutes=1)))
    return ChatCompletions(
        routes=RouteCache(FakeRouteStore(), clock, DEMO_ROUTES),
        retrieval=FakeRetrievalClient(),
        reservations=reservations,
        disconnects=Disconnects(LIMITS),
        worker=GrpcWorkerClient(channel),
        recorder=recorder,
        tasks=tasks,
        clock=clock,
        limits=LIMITS,
        cache=ChatCache(cache, by_route(CachePolicy(mode)), charges),
    )


async def measure(rounds: int) -> dict[str, list[float]]:
    """Return the CPU of a request in microseconds, by way and round; the ways take turns."""
    use_cases = {name: completions(mode) for name, mode in WAYS.items()}
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    numbers, context, body = itertools.count(), Context(), chat_body(MODEL)
    with as_caller(a_caller()):
        for _ in range(rounds):
            for name, use_case in use_cases.items():
                # No two prompts are equal.
                requests = [
                    orchestration_pb2.GenerateRequest(
                        request_id=f"req_{number}", model=MODEL, body=body.replace(b"fox", b"%09d" % number, 1)
                    )
                    for number in itertools.islice(numbers, REQUESTS)
                ]
                began = time.thread_time()
                for request in requests:
                    await generate(use_case, request, context)
                taken[name].append((time.thread_time() - began) / REQUESTS * 1e6)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help=f"rounds of {REQUESTS} requests each way (40)")
    options = parser.parse_args()
    configure_logs("info", "bench", "stderr", buffered=True)
    for name, rounds in uvloop.run(measure(options.rounds)).items():
        print(f"{name:<20} least {min(rounds):7.1f} µs, median {median(rounds):7.1f} µs")


if __name__ == "__main__":
    main()
