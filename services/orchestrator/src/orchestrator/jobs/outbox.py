"""Events of jobs for the outbox, from which the relay publishes them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from chassis.ids import new_id
from chassis.kafka.outbox import RECORD_KEY
from values.protos import timestamp_to_proto

from orchestrator.jobs.model import Lane, RunRef
from orchestrator.jobs.protos import job_dispatched, job_finished
from orchestrator.jobs.rounds import DispatchPlan
from orchestrator.jobs.runs import RunEnd, WaitingEnd
from orchestrator.usage.outbox import USAGE_RECORDED
from orchestrator.usage.protos import request_usage_to_proto

JOB_FINISHED = "argosy.orchestration.job-finished.v1"


class OutboxRow(NamedTuple):
    """An event of one of several items."""

    place: int
    """Of the item, from 1."""
    id: str
    topic: str
    value: bytes
    request_id: str = ""


def dispatch_topic(pool: str, lane: str) -> str:
    """Name the topic by which the workers of a pool learn of due jobs."""
    return f"argosy.orchestration.job-dispatched.v1.{pool}.{lane}"


def end_to_events(place: int, end: RunEnd | WaitingEnd) -> list[OutboxRow]:
    """Return the events of the end of a job, or of its run."""
    events = []
    if isinstance(end, RunEnd) and end.usage is not None:
        usage = request_usage_to_proto(end.usage, timestamp_to_proto(end.at)).SerializeToString()
        events.append(OutboxRow(place, end.usage.event_id, USAGE_RECORDED, usage, end.usage.request_id))
    if end.job.finished_at is not None:
        event_id = new_id("evt_")
        events.append(OutboxRow(place, event_id, JOB_FINISHED, job_finished(event_id, end.job, end.job.finished_at)))
    return events


def dispatch_to_event(place: int, plan: DispatchPlan, run: RunRef, lane: Lane | str) -> tuple[OutboxRow, str]:
    """Return the record of a dispatch, and its headers.

    It is keyed by the job and its epoch, so that a topic is read evenly, and a job that comes back may go to another
    worker than the one that was full, or died.
    """
    event_id, dispatch = new_id("evt_"), run._replace(epoch=run.epoch + 1)
    value = job_dispatched(event_id, dispatch, plan.now)
    headers = f'{{"{RECORD_KEY}":"{dispatch.request_id}"}}'
    return OutboxRow(place, event_id, dispatch_topic(plan.pool, lane), value), headers


def event_columns(events: Sequence[OutboxRow]) -> list[list[Any]]:
    """In the order of `statements.END`."""
    return [
        [event.place for event in events],
        [event.id for event in events],
        [event.topic for event in events],
        [event.value for event in events],
        ["{}"] * len(events),
        [event.request_id for event in events],
    ]
