"""Records of dispatched jobs."""

import pytest
from argosy.orchestration.v1.events_pb2 import JobDispatched
from chassis.errors import Unavailable
from chassis.kafka import Record, Undecodable
from chassis.tenancy import Caller, current_caller
from chassis.testing import a_principal, a_signer
from inference_worker.jobs.consumer import DispatchConsumer, lane_topics
from inference_worker.jobs.model import DISPATCH_TOPIC, Lane, Offer, RunEnd, RunRef, dispatch_topic
from inference_worker.jobs.protos import NotADispatch, proto_to_dispatch
from job_fakes import FakedWorker
from worker_fakes import a_candidate, a_plan

from tests.contract.test_topics import TOPICS


class FakeCallers:
    def caller(self, tenant_id: str, request_id: str = "") -> Caller:
        principal = a_principal(tenant_id, roles=("service",))
        return Caller(principal, a_signer().sign(principal), request_id)


def a_record(value: bytes, lane: Lane = Lane.BATCH) -> Record:
    return Record(dispatch_topic("default", lane), b"job_1", value)


def a_dispatched(**fields: object) -> bytes:
    event = JobDispatched(job_id="job_1", epoch=1)
    event.meta.tenant_id = "ten_a"
    event.meta.occurred_at.FromSeconds(1_800_000_000)
    for name, value in fields.items():
        setattr(event, name, value)
    return event.SerializeToString()


async def test_a_record_becomes_a_run_in_the_name_of_its_tenant():
    faked = FakedWorker()
    faked.orchestrator.work["job_1"] = a_plan(a_candidate())
    seen: list[tuple[str, str]] = []
    original = faked.deltas.append

    def append(run, payloads) -> None:
        seen.append((current_caller().principal.tenant_id, current_caller().request_id))
        original(run, payloads)

    faked.deltas.append = append  # type: ignore[method-assign]
    work = await DispatchConsumer(faked.worker, FakeCallers(), faked.observer)(a_record(a_dispatched()))  # type: ignore[arg-type]
    assert work is not None
    await work()

    assert set(seen) == {("ten_a", "job_1.2")}
    assert faked.observer.ends["job_1"] is RunEnd.SUCCEEDED


async def test_a_record_of_a_job_that_is_gone_has_no_work():
    faked = FakedWorker()

    assert await DispatchConsumer(faked.worker, FakeCallers(), faked.observer)(a_record(a_dispatched())) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"\xff\xff", b"", a_dispatched(job_id=""), a_dispatched(epoch=0)])
async def test_what_is_no_dispatch_is_undecodable(value: bytes):
    with pytest.raises(Undecodable, match="JobDispatched"):
        await DispatchConsumer(FakedWorker().worker, FakeCallers(), FakedWorker().observer)(a_record(value))  # type: ignore[arg-type]


def test_the_lane_and_the_time_of_a_dispatch_are_read():
    dispatch = proto_to_dispatch(a_dispatched(), Lane.INTERACTIVE)

    assert (dispatch.lane, dispatch.ref.epoch) == (Lane.INTERACTIVE, 1)
    assert dispatch.dispatched_at is not None
    assert dispatch.dispatched_at.timestamp() == 1_800_000_000
    with pytest.raises(NotADispatch):
        proto_to_dispatch(b"\xff", Lane.BATCH)


def test_the_topics_of_the_default_pool_are_those_that_are_declared():
    declared = {name for name in TOPICS if name.startswith(DISPATCH_TOPIC)}

    assert set(lane_topics("default")) == declared
    handicaps = list(lane_topics("default").values())
    assert handicaps == sorted(handicaps)


async def test_an_offered_job_is_claimed_again_until_there_is_an_answer():
    faked = FakedWorker()
    faked.orchestrator.work["job_1"] = a_plan(a_candidate())
    faked.orchestrator.failures["claim"] = [Unavailable("no answer")]
    consumer = DispatchConsumer(faked.worker, FakeCallers(), faked.observer)  # type: ignore[arg-type]

    work = await consumer.claim_offer(Offer(RunRef("ten_a", "job_1", 1), Lane.BATCH))

    assert work is not None
    assert faked.observer.retries == [("claim", "SERVICE_UNAVAILABLE")]


async def test_an_offer_that_is_never_answered_is_left():
    faked = FakedWorker()
    faked.orchestrator.failures["claim"] = [Unavailable("no answer")] * 3
    consumer = DispatchConsumer(faked.worker, FakeCallers(), faked.observer)  # type: ignore[arg-type]

    assert await consumer.claim_offer(Offer(RunRef("ten_a", "job_1", 1), Lane.BATCH)) is None
