"""A request that succeeds for each method of jobs, queues and batches; importing this registers them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import asyncpg
from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import batches_pb2, jobs_pb2, pools_pb2
from argosy.retrieval.v1 import retrieval_pb2
from chassis.ids import new_id
from google.protobuf.message import Message

from tests.e2e.call_context import CallContext
from tests.e2e.method_cases import CASES, MODEL, chat
from tests.fleet.control import provision_drill_topics

CHAT = "/v1/chat/completions"
TWO_CANDIDATES = "sim-transports-two"
QUARANTINE = """
WITH moved AS (
    UPDATE orchestration.jobs SET state = 'quarantined', crashes = 3
    WHERE tenant_id = $1 AND job_id = $2 AND state = 'queued' RETURNING pool, lane, cost_tokens
)
UPDATE orchestration.tenant_queues AS q SET queued = q.queued - 1, queued_tokens = q.queued_tokens - m.cost_tokens
FROM moved AS m WHERE q.tenant_id = $1 AND (q.pool, q.lane) = (m.pool, m.lane)
"""


def become(context: CallContext, role: str, plan: str = "idle") -> None:
    context.principal = replace(context.principal, roles=frozenset({role}), plan=plan)


def new_job(model: str = MODEL) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(job_id=new_id("job_"), endpoint=CHAT, body=chat(model))


async def add_job(context: CallContext, plan: str = "idle", model: str = MODEL) -> str:
    """Submit a job; the workers of the plan `idle` do not exist."""
    become(context, "member", plan)
    return str((await context.call("SubmitJob", new_job(model))).job.id)


async def add_quarantined(context: CallContext) -> str:
    job_id = await add_job(context)
    connection = await asyncpg.connect(context.fleet.postgres_dsn)
    try:
        await connection.execute(QUARANTINE, context.principal.tenant_id, job_id)
    finally:
        await connection.close()
    become(context, "platform_admin")
    return job_id


@lru_cache
def _drill_topics() -> None:
    provision_drill_topics()


async def add_dispatched(context: CallContext, model: str = MODEL) -> tuple[jobs_pb2.JobRunRef, str]:
    """A dispatch, and the worker that it is for: one that only says that it lives."""
    await asyncio.to_thread(_drill_topics)
    job_id, worker_id = await add_job(context, "drill", model), new_id("worker-")
    tenant_id = context.principal.tenant_id
    inspect = jobs_pb2.InspectJobRequest(tenant_id=tenant_id, job_id=job_id)
    async with asyncio.timeout(60):
        while True:
            become(context, "service")
            await context.call("RecordHeartbeat", heartbeat(worker_id))
            become(context, "platform_admin")
            found = await context.call("InspectJob", inspect)
            if found.job.state == jobs_pb2.JOB_STATE_DISPATCHED:
                break
            await asyncio.sleep(0.1)
    become(context, "service")
    return jobs_pb2.JobRunRef(tenant_id=tenant_id, job_id=job_id, epoch=found.epoch), worker_id


async def add_run(context: CallContext, model: str = MODEL) -> jobs_pb2.JobRunRef:
    dispatch, worker_id = await add_dispatched(context, model)
    request = jobs_pb2.ClaimJobRequest(dispatch=dispatch, worker_id=worker_id)
    run: jobs_pb2.JobRunRef = (await context.call("ClaimJob", request)).run
    return run


def heartbeat(worker_id: str) -> jobs_pb2.RecordHeartbeatRequest:
    return jobs_pb2.RecordHeartbeatRequest(worker_id=worker_id, pool="drill", slots=8)


def attempt(outcome: inference_pb2.AttemptOutcome.ValueType, tokens: int) -> inference_pb2.Attempt:
    made = inference_pb2.Attempt(number=1, outcome=outcome)
    made.usage.source = common_pb2.USAGE_SOURCE_REPORTED
    made.usage.input_tokens = made.usage.output_tokens = tokens
    return made


async def submit_job(context: CallContext) -> Sequence[Message]:
    become(context, "member")
    return [new_job()]


async def get_job(context: CallContext) -> Sequence[Message]:
    return [jobs_pb2.GetJobRequest(job_id=await add_job(context))]


async def read_job_result(context: CallContext) -> Sequence[Message]:
    return [jobs_pb2.ReadJobResultRequest(job_id=await add_job(context))]


async def list_jobs(context: CallContext) -> Sequence[Message]:
    await add_job(context)
    await add_job(context)
    return [jobs_pb2.ListJobsRequest(limit=1)]


async def cancel_job(context: CallContext) -> Sequence[Message]:
    return [jobs_pb2.CancelJobRequest(job_id=await add_job(context))]


async def watch_job(context: CallContext) -> Sequence[Message]:
    job_id = await add_job(context)
    await context.call("CancelJob", jobs_pb2.CancelJobRequest(job_id=job_id))
    return [jobs_pb2.WatchJobRequest(job_id=job_id)]


async def claim_job(context: CallContext) -> Sequence[Message]:
    dispatch, worker_id = await add_dispatched(context)
    return [jobs_pb2.ClaimJobRequest(dispatch=dispatch, worker_id=worker_id)]


async def start_job_attempt(context: CallContext) -> Sequence[Message]:
    await context.fleet.add_model(TWO_CANDIDATES, upstream_model="instant", fallback="instant?again=1")
    run = await add_run(context, TWO_CANDIDATES)
    rejected = attempt(inference_pb2.ATTEMPT_OUTCOME_REJECTED, 0)
    starting = inference_pb2.AttemptStarting(number=2, candidate=1, ended=[rejected])
    return [jobs_pb2.StartJobAttemptRequest(run=run, attempt=starting)]


async def record_heartbeat(context: CallContext) -> Sequence[Message]:
    become(context, "service")
    return [heartbeat(new_id("worker-"))]


async def complete_job(context: CallContext) -> Sequence[Message]:
    made = attempt(inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED, 3)
    return [jobs_pb2.CompleteJobRequest(run=await add_run(context), attempts=[made], result=b'{"choices": []}')]


async def complete_job_in_pieces(context: CallContext) -> Sequence[Message]:
    made = attempt(inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED, 3)
    request = jobs_pb2.CompleteJobRequest(run=await add_run(context), attempts=[made], result=b'{"choices": []}')
    return [jobs_pb2.CompleteJobInPiecesRequest(piece=request)]


async def return_job(context: CallContext) -> Sequence[Message]:
    return [jobs_pb2.ReturnJobRequest(run=await add_run(context))]


async def find_unclaimed_jobs(context: CallContext) -> Sequence[Message]:
    become(context, "service")
    return [jobs_pb2.FindUnclaimedJobsRequest(pool="none-of-the-tests", slots=4, free_slots=2)]


async def stay_connected(context: CallContext) -> Sequence[Message]:
    become(context, "service")
    request = jobs_pb2.StayConnectedRequest(worker_id=new_id("worker-"), pool="none-of-the-tests")
    request.hold.FromMilliseconds(10)
    return [request]


async def put_pool(context: CallContext) -> Sequence[Message]:
    become(context, "platform_admin")
    return [pools_pb2.PutPoolRequest(name="gold", tenant_ids=[context.principal.tenant_id], max_replicas=1)]


async def get_pool(context: CallContext) -> Sequence[Message]:
    become(context, "platform_admin")
    return [pools_pb2.GetPoolRequest(name="gold")]


async def list_pools(context: CallContext) -> Sequence[Message]:
    become(context, "platform_admin")
    return [pools_pb2.ListPoolsRequest()]


async def delete_pool(context: CallContext) -> Sequence[Message]:
    become(context, "platform_admin")
    return [pools_pb2.DeletePoolRequest(name="gold")]


async def list_queues(context: CallContext) -> Sequence[Message]:
    become(context, "platform_admin")
    return [jobs_pb2.ListQueuesRequest()]


async def pause_queue(context: CallContext) -> Sequence[Message]:
    become(context, "platform_admin")
    return [jobs_pb2.PauseQueueRequest(selector=jobs_pb2.QueueSelector(tenant_id=context.principal.tenant_id))]


async def resume_queue(context: CallContext) -> Sequence[Message]:
    (pause,) = await pause_queue(context)
    await context.call("PauseQueue", pause)
    return [jobs_pb2.ResumeQueueRequest(selector=pause.selector)]  # type: ignore[attr-defined]


async def list_all_jobs(context: CallContext) -> Sequence[Message]:
    await add_job(context)
    become(context, "platform_admin")
    states = [jobs_pb2.JOB_STATE_QUEUED]
    return [jobs_pb2.ListAllJobsRequest(limit=1, states=states, tenant_id=context.principal.tenant_id)]


async def inspect_job(context: CallContext) -> Sequence[Message]:
    job_id = await add_job(context)
    become(context, "platform_admin")
    return [jobs_pb2.InspectJobRequest(tenant_id=context.principal.tenant_id, job_id=job_id)]


async def retry_job(context: CallContext) -> Sequence[Message]:
    job_id = await add_quarantined(context)
    return [jobs_pb2.RetryJobRequest(tenant_id=context.principal.tenant_id, job_id=job_id)]


async def drop_job(context: CallContext) -> Sequence[Message]:
    job_id = await add_quarantined(context)
    return [jobs_pb2.DropJobRequest(tenant_id=context.principal.tenant_id, job_id=job_id)]


async def add_batch(context: CallContext, content: bytes, state: batches_pb2.BatchState.ValueType) -> str:
    """Create a batch, and wait for its state."""
    (request,) = await create_batch(context, content)
    batch = (await context.call("CreateBatch", request)).batch
    get = batches_pb2.GetBatchRequest(batch_id=batch.id)
    async with asyncio.timeout(60):
        while batch.state != state:
            await asyncio.sleep(0.1)
            batch = (await context.call("GetBatch", get)).batch
    return str(batch.id)


def batch_line() -> bytes:
    body = json.loads(chat(MODEL))
    return json.dumps({"custom_id": "1", "method": "POST", "url": CHAT, "body": body}).encode()


async def create_batch(context: CallContext, content: bytes = b"{}\n") -> Sequence[Message]:
    become(context, "member")
    file = await context.call(
        "UploadFile",
        retrieval_pb2.UploadFileRequest(metadata=retrieval_pb2.FileMetadata(filename="a.jsonl", purpose="batch")),
        retrieval_pb2.UploadFileRequest(data=content),
        retrieval_pb2.UploadFileRequest(end=retrieval_pb2.UploadEnd(bytes=len(content))),
    )
    request = batches_pb2.CreateBatchRequest(batch_id=new_id("batch_"), endpoint=CHAT, completion_window="24h")
    request.input_file_id = file.file.file_id
    return [request]


async def get_batch(context: CallContext) -> Sequence[Message]:
    return [batches_pb2.GetBatchRequest(batch_id=await add_batch(context, b"{}\n", batches_pb2.BATCH_STATE_FAILED))]


async def list_batches(context: CallContext) -> Sequence[Message]:
    for _ in range(2):
        await add_batch(context, b"{}\n", batches_pb2.BATCH_STATE_FAILED)
    return [batches_pb2.ListBatchesRequest(limit=1)]


async def cancel_batch(context: CallContext) -> Sequence[Message]:
    batch_id = await add_batch(context, batch_line(), batches_pb2.BATCH_STATE_IN_PROGRESS)
    return [batches_pb2.CancelBatchRequest(batch_id=batch_id)]


SERVICES = {
    "JobService": (submit_job, get_job, read_job_result, list_jobs, cancel_job, watch_job),
    "JobRunService": (
        claim_job,
        start_job_attempt,
        record_heartbeat,
        complete_job,
        complete_job_in_pieces,
        return_job,
        find_unclaimed_jobs,
        stay_connected,
    ),
    "PoolService": (put_pool, get_pool, list_pools, delete_pool),
    "QueueService": (list_queues, pause_queue, resume_queue, list_all_jobs, inspect_job, retry_job, drop_job),
    "BatchService": (create_batch, get_batch, list_batches, cancel_batch),
}
CASES |= {
    f"/argosy.orchestration.v1.{service}/{''.join(word.title() for word in function.__name__.split('_'))}": function
    for service, functions in SERVICES.items()
    for function in functions
}
