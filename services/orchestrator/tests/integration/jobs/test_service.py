"""A job in the running service: all loops, real Postgres, no Kafka."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from argosy.common.v1.common_pb2 import USAGE_SOURCE_REPORTED, TokenUsage
from argosy.inference.v1 import inference_pb2 as inference
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.events_pb2 import JobDispatched
from argosy.orchestration.v1.jobs_pb2_grpc import JobRunServiceStub, JobServiceStub
from argosy.orchestration.v1.orchestration_pb2 import (
    REQUEST_STATE_RUNNING,
    REQUEST_STATE_USAGE_PENDING,
    GetRequestStatesRequest,
    RequestRef,
)
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.settings import PostgresSection
from chassis.tenancy import Caller, PrincipalSigner, as_caller
from chassis.testing import SECRET
from orchestrator.jobs.postgres import PostgresJobStore

from services.orchestrator.tests.integration.test_service import PRINCIPAL, answer, running
from services.orchestrator.tests.jobs_examples import BODY
from services.orchestrator.tests.peers import ScriptedWorker

SERVICE = replace(PRINCIPAL, tenant_id="fleet", roles=frozenset({"service"}))
ATTEMPT = inference.Attempt(
    number=1, usage=TokenUsage(source=USAGE_SOURCE_REPORTED, input_tokens=120, output_tokens=48)
)


def worker() -> Caller:
    """Sign at the time of the call: what is signed when tests are collected may expire before the test runs."""
    return Caller(SERVICE, PrincipalSigner(SECRET, "tests", SystemClock()).sign(SERVICE), "req_worker")


async def dispatch_of(owner: Any, job_id: str) -> pb.JobRunRef:
    """Wait for the record of a dispatch."""
    while True:
        for row in await owner.fetch("SELECT value FROM outbox WHERE topic LIKE '%job-dispatched%'"):
            event = JobDispatched.FromString(row["value"])
            if event.job_id == job_id:
                return pb.JobRunRef(tenant_id=event.meta.tenant_id, job_id=job_id, epoch=event.epoch)
        await asyncio.sleep(0.01)


async def test_a_job_is_accepted_dispatched_claimed_settled_and_read(
    section: PostgresSection, owner: Any, store: PostgresJobStore
) -> None:
    async with running(section, ScriptedWorker(answer)) as service:
        jobs, runs = JobServiceStub(service.channel), JobRunServiceStub(service.channel)
        with as_caller(worker()):
            await runs.RecordHeartbeat(pb.RecordHeartbeatRequest(worker_id="wkr_1", pool="default", slots=2))
        job = (
            await jobs.SubmitJob(pb.SubmitJobRequest(job_id=new_id("job_"), endpoint="/v1/chat/completions", body=BODY))
        ).job
        dispatch = await dispatch_of(owner, job.id)
        with as_caller(worker()):
            claimed = await runs.ClaimJob(pb.ClaimJobRequest(dispatch=dispatch, worker_id="wkr_1"))
            asked = GetRequestStatesRequest(
                requests=[RequestRef(tenant_id=job.tenant_id, request_id=claimed.request_id)]
            )
            during = (await service.stub.GetRequestStates(asked)).states
            done = await runs.CompleteJob(
                pb.CompleteJobRequest(run=claimed.run, attempts=[ATTEMPT], result=b'{"id":"chatcmpl"}')
            )
            after = (await service.stub.GetRequestStates(asked)).states
        read = (await jobs.GetJob(pb.GetJobRequest(job_id=job.id))).job

    assert claimed.chat.candidates[0].model == "smollm2-135m-instruct"
    assert (list(during), list(after)) == ([REQUEST_STATE_RUNNING], [REQUEST_STATE_USAGE_PENDING])
    assert done.state == read.state == pb.JOB_STATE_SUCCEEDED
    assert (read.result, read.cost.nano_usd) == (b'{"id":"chatcmpl"}', 120 * 50 + 48 * 200)
