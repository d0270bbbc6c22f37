"""The worker as a process: settings from the environment, upstreams over sockets, the drain."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest
from argosy.inference.v1 import inference_pb2
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub
from argosy_dev.fleet.paths import FleetPaths
from chassis.clock import SystemClock
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, PrincipalSigner, as_caller
from chassis.testing import SECRET, a_principal, free_port
from worker_fakes import WORDS, a_body, text_of

from tests.simulators.upstream import UpstreamSimulator

if TYPE_CHECKING:
    from argosy.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub


class Worker:
    """A running worker, and a stub to it."""

    def __init__(self, process: asyncio.subprocess.Process, stub: "InferenceServiceAsyncStub", ops: str) -> None:
        self.process = process
        self.stub = stub
        self.ops = ops

    async def infer(self, upstream: str, model: str) -> list[inference_pb2.InferResponse]:
        run = inference_pb2.InferRequest(run=inference_pb2.Run(request_id="req_1", plan=a_plan(upstream, model)))

        async def send() -> AsyncIterator[inference_pb2.InferRequest]:
            yield run

        return [response async for response in self.stub.Infer(send())]


def a_plan(upstream: str, model: str) -> inference_pb2.Plan:
    return inference_pb2.Plan(
        candidates=[inference_pb2.Candidate(upstream=upstream, model=model, body=a_body(model, stream=True))],
        stream=True,
    )


@asynccontextmanager
async def running(upstreams: dict[str, object]) -> AsyncIterator[Worker]:
    grpc_port, ops_port = free_port(), free_port()
    environment = {
        **os.environ,
        "INFERENCE_WORKER_PRINCIPAL__SECRETS": SECRET,
        "INFERENCE_WORKER_GRPC__BIND": f"127.0.0.1:{grpc_port}",
        "INFERENCE_WORKER_OPS__PORT": str(ops_port),
        "INFERENCE_WORKER_DRAIN": "5",
        "INFERENCE_WORKER_UPSTREAMS": json.dumps(upstreams),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "inference_worker", env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        await until_ready(f"http://127.0.0.1:{ops_port}", process)
        with as_caller(a_caller_of_now()):
            async with Channel(f"127.0.0.1:{grpc_port}", "inference-worker") as channel:
                yield Worker(
                    process,
                    InferenceServiceStub(channel),
                    f"http://127.0.0.1:{ops_port}",
                )
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def a_caller_of_now() -> Caller:
    """The process uses the real clock, so the principal must have been signed now."""
    principal = a_principal()
    return Caller(principal, PrincipalSigner(SECRET, "tests", SystemClock()).sign(principal), new_id("req_"))


async def until_ready(ops: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"{ops}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError(f"the worker ended with {process.returncode}")


@pytest.fixture
async def worker(simulator: UpstreamSimulator) -> AsyncIterator[Worker]:
    upstreams: dict[str, object] = {
        "sim": {"kind": "openai", "base_url": f"{simulator.url}/v1", "api_key": "sk-simulated-key"},
        "claude": {"kind": "anthropic", "base_url": simulator.url, "api_key": "sk-simulated-key"},
    }
    model = FleetPaths.from_environment().minilm
    if (model / "model.onnx").exists():
        upstreams["minilm"] = {"kind": "onnx", "path": str(model)}
    async with running(upstreams) as started:
        yield started


@pytest.mark.parametrize("upstream", ["sim", "claude"])
async def test_a_plan_runs_through_the_process(worker: Worker, upstream: str):
    responses = await worker.infer(upstream, "instant")

    assert text_of([payload for one in responses for payload in one.chunk.payloads]) == "".join(WORDS)
    finished = responses[-1].finished
    assert not finished.HasField("error")
    assert finished.attempts[0].usage.output_tokens == 8
    assert json.loads(finished.usage_payload)["choices"] == []


async def test_a_worker_whose_process_is_killed_serves_again_without_a_restart(worker: Worker):
    (serving,) = psutil.Process(worker.process.pid).children()
    await worker.infer("sim", "instant")
    serving.kill()
    await asyncio.to_thread(serving.wait, 30)
    await until_ready(worker.ops, worker.process)

    responses = await worker.infer("sim", "instant")
    async with aiohttp.ClientSession() as session, session.get(f"{worker.ops}/metrics") as response:
        metrics = await response.text()

    assert not responses[-1].finished.HasField("error")
    assert "inference_worker_process_restarts 1.0" in metrics
    assert worker.process.returncode is None


async def test_usage_is_counted_without_a_network(worker: Worker):
    responses = await worker.infer("sim", "no-usage")

    usage = responses[-1].finished.attempts[0].usage
    assert usage.input_tokens > 2
    assert usage.output_tokens >= 8


async def test_metrics_are_counted_and_memory_is_bounded(worker: Worker):
    parent = psutil.Process(worker.process.pid)
    (serving,) = parent.children()
    # Of the parent's memory, most is the child's, too.
    idle = (serving.memory_info().rss + parent.memory_full_info().uss) / 2**20
    await worker.infer("sim", "instant")

    async with aiohttp.ClientSession() as session, session.get(f"{worker.ops}/metrics") as response:
        metrics = await response.text()

    assert 'inference_worker_attempts_total{outcome="succeeded",upstream="sim"} 1.0' in metrics
    assert 'inference_worker_tokens_total{direction="output",source="reported",upstream="sim"} 8.0' in metrics
    assert idle <= 250


async def test_a_drain_lets_streams_end(worker: Worker):
    call = worker.stub.Infer()
    await call.write(
        inference_pb2.InferRequest(run=inference_pb2.Run(plan=a_plan("sim", "paced?chunks=20&interval=0.03")))
    )
    await call.read()

    worker.process.send_signal(signal.SIGTERM)
    responses = [response async for response in call]

    assert responses[-1].WhichOneof("event") == "finished"
    assert not responses[-1].finished.HasField("error")
    assert await asyncio.wait_for(worker.process.wait(), 30) == 0


async def test_a_plan_that_outlasts_the_drain_is_aborted_with_its_attempts(
    worker: Worker, simulator: UpstreamSimulator
):
    call = worker.stub.Infer()
    await call.write(inference_pb2.InferRequest(run=inference_pb2.Run(plan=a_plan("sim", "silent"))))
    await call.read()

    worker.process.send_signal(signal.SIGTERM)
    responses = [response async for response in call]

    finished = responses[-1].finished
    assert finished.error.reason == "SERVICE_UNAVAILABLE"
    assert finished.attempts[0].outcome == inference_pb2.ATTEMPT_OUTCOME_CANCELLED
    assert finished.attempts[0].usage.output_tokens > 0
    assert await asyncio.wait_for(worker.process.wait(), 30) == 0
    assert simulator.aborted == 1


async def test_the_log_has_one_line_per_request_and_no_secret(worker: Worker):
    await worker.infer("sim", "instant")
    await worker.infer("sim", "401")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.stdout is not None
    output = (await worker.process.stdout.read()).decode()

    lines = [json.loads(line) for line in output.splitlines()]
    finished = [line for line in lines if line["event"] == "plan_finished"]
    assert [line["reason"] for line in finished] == [None, "UPSTREAM_ACCOUNT_UNAVAILABLE"]
    assert all(line["tenant_id"] == "ten_test" and line["request_id"].startswith("req_") for line in finished)
    assert "sk-simulated-key" not in output
    assert "word1" not in output
    assert "hello there" not in output


async def test_a_missing_model_keeps_the_worker_from_starting(tmp_path: Path):
    with pytest.raises(AssertionError, match="ended with 1"):
        async with running({"minilm": {"kind": "onnx", "path": str(tmp_path)}}):
            pass
