"""The worker as a process that takes jobs: real Kafka and Redis, a simulated provider, and a fake orchestrator."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import jobs_pb2
from argosy.orchestration.v1.events_pb2 import JobDispatched
from argosy.orchestration.v1.jobs_pb2_grpc import JobRunServiceServicer, add_JobRunServiceServicer_to_server
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, Kind
from chassis.grpc import GrpcServer
from chassis.ids import new_id
from chassis.kafka import Publisher, Record, ensure_topics, for_pool, load_topics
from chassis.settings import KafkaConnection
from chassis.tenancy import PrincipalVerifier
from chassis.testing import SECRET, free_port
from chassis.testing.grpc import serving_at
from chassis.testing.kafka import SIGNING_KEYS, a_kafka_section
from inference_worker.jobs.model import Lane, dispatch_topic
from worker_fakes import a_body

from tests.simulators.upstream import UpstreamSimulator

TOPICS = Path(__file__).parents[5] / "proto" / "topics"
SERVICE = "argosy.orchestration.v1.JobRunService"


class JobNotClaimable(ArgosyError, public=False):
    """As the orchestrator's own."""

    kind, reason = Kind.CONFLICT, "JOB_NOT_CLAIMABLE"


class FakeOrchestrator(JobRunServiceServicer):
    """Gives each dispatched job once, and keeps what the worker reports."""

    def __init__(self) -> None:
        self.plans: dict[str, inference_pb2.Plan] = {}
        self.completed: dict[str, jobs_pb2.CompleteJobRequest] = {}
        self.returned: dict[str, jobs_pb2.ReturnJobRequest] = {}
        self.beats: list[jobs_pb2.RecordHeartbeatRequest] = []
        self._changed = asyncio.Condition()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(condition)

    async def ClaimJob(self, request, context):
        plan = self.plans.pop(request.dispatch.job_id, None)
        if plan is None:
            raise JobNotClaimable("it is not dispatched")
        run = jobs_pb2.JobRunRef(tenant_id="ten_a", job_id=request.dispatch.job_id, epoch=request.dispatch.epoch + 1)
        claim = jobs_pb2.ClaimJobResponse(run=run, request_id=f"{run.job_id}.{run.epoch}", chat=plan)
        claim.lease.FromSeconds(15)
        await self._note()
        return claim

    async def StartJobAttempt(self, request, context):
        return jobs_pb2.StartJobAttemptResponse()

    async def RecordHeartbeat(self, request, context):
        self.beats.append(request)
        await self._note()
        return jobs_pb2.RecordHeartbeatResponse()

    async def CompleteJob(self, request, context):
        self.completed[request.run.job_id] = request
        await self._note()
        return jobs_pb2.CompleteJobResponse()

    async def CompleteJobInPieces(self, requests, context):
        raise NotImplementedError

    async def ReturnJob(self, request, context):
        self.returned[request.run.job_id] = request
        await self._note()
        return jobs_pb2.ReturnJobResponse()

    async def StayConnected(self, request, context):
        yield jobs_pb2.StayConnectedResponse()
        await asyncio.Event().wait()

    async def FindUnclaimedJobs(self, request, context):
        return jobs_pb2.FindUnclaimedJobsResponse()

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def a_plan(model: str) -> inference_pb2.Plan:
    candidate = inference_pb2.Candidate(upstream="sim", model=model, body=a_body(model, stream=True))
    return inference_pb2.Plan(candidates=[candidate], stream=True)


@pytest.fixture
async def pool() -> AsyncIterator[str]:
    """A pool of its own, with its topics."""
    name = new_id("pool-").replace("_", "-")[:30]
    topics = for_pool(load_topics(TOPICS), name)
    bootstrap = os.environ["ARGOSY_KAFKA_BOOTSTRAP"]
    await ensure_topics(KafkaConnection(bootstrap=bootstrap), topics)
    yield name
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name for topic in topics for name in (topic.name, topic.dead_letters)])
    finally:
        await admin.close()


@pytest.fixture
async def orchestrator() -> AsyncIterator[tuple[FakeOrchestrator, GrpcServer]]:
    servicer = FakeOrchestrator()
    verifier = PrincipalVerifier([SECRET], SystemClock())
    registration = (add_JobRunServiceServicer_to_server, servicer, SERVICE)
    async with serving_at("127.0.0.1:0", [registration], verifier) as server:
        yield servicer, server


@asynccontextmanager
async def a_worker(pool: str, simulator: UpstreamSimulator, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = {
        "PRINCIPAL__SECRETS": SECRET,
        "GRPC__BIND": f"127.0.0.1:{free_port()}",
        "OPS__PORT": str(free_port()),
        "DRAIN": "6",
        "UPSTREAMS": json.dumps({"sim": {"kind": "openai", "base_url": f"{simulator.url}/v1", "api_key": "sk-sim"}}),
        "KAFKA__BOOTSTRAP": os.environ["ARGOSY_KAFKA_BOOTSTRAP"],
        "KAFKA__SIGNING_KEYS": SIGNING_KEYS,
        "REDIS__URL": os.environ["ARGOSY_REDIS_URL"],
        "PEERS__ORCHESTRATOR": f"127.0.0.1:{port}",
        "JOBS__POOL": pool,
        "JOBS__SLOTS": "3",
    }
    environment = {**os.environ, **{f"INFERENCE_WORKER_{name}": value for name, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "inference_worker", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def dispatch(pool: str, job_id: str, lane: Lane = Lane.STANDARD, value: bytes | None = None) -> None:
    event = JobDispatched(job_id=job_id, epoch=1)
    event.meta.tenant_id = "ten_a"
    record = Record(dispatch_topic(pool, lane), job_id.encode(), event.SerializeToString() if value is None else value)
    async with Publisher(a_kafka_section(os.environ["ARGOSY_KAFKA_BOOTSTRAP"])) as publisher:
        assert await publisher.publish_all([record]) == [None]


async def test_a_process_takes_jobs_of_all_lanes_and_a_drain_hands_back_what_it_cannot_finish(
    pool: str, simulator: UpstreamSimulator, orchestrator: tuple[FakeOrchestrator, GrpcServer]
):
    servicer, server = orchestrator
    async with a_worker(pool, simulator, server.port) as worker:
        await servicer.until(lambda: servicer.beats)
        await dispatch(pool, "job_bad", Lane.BATCH, b"\xff\xff")
        for lane in Lane:
            servicer.plans[f"job_{lane}"] = a_plan("instant")
            await dispatch(pool, f"job_{lane}", lane)
        await servicer.until(lambda: len(servicer.completed) == 3)

        servicer.plans["job_slow"] = a_plan("silent")
        await dispatch(pool, "job_slow", Lane.INTERACTIVE)
        await servicer.until(lambda: any(beat.runs for beat in servicer.beats))
        worker.send_signal(signal.SIGTERM)
        await servicer.until(lambda: servicer.returned)
        async with asyncio.timeout(30):
            code = await worker.wait()

    assert code == 0
    assert {(beat.pool, beat.slots) for beat in servicer.beats} == {(pool, 3), (pool, 0)}
    for request in servicer.completed.values():
        assert json.loads(request.result)["choices"][0]["finish_reason"] == "stop"
    (attempt,) = servicer.returned["job_slow"].attempts
    assert attempt.outcome == inference_pb2.ATTEMPT_OUTCOME_CANCELLED
    assert "job_slow" not in servicer.completed
