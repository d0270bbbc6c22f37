"""Queues as messages."""

from argosy.orchestration.v1 import jobs_pb2 as pb

from orchestrator.jobs.protos import LANE_TO_PROTO
from orchestrator.queues.model import PauseSelector, QueueFigures


def figures_to_proto(figures: QueueFigures) -> pb.Queue:
    message = pb.Queue(
        pool=figures.pool,
        lane=LANE_TO_PROTO[figures.lane],
        queued=figures.queued,
        dispatched=figures.dispatched,
        running=figures.running,
        queued_tokens=figures.queued_tokens,
        slots=figures.slots,
        tenants=figures.tenants,
    )
    if figures.oldest_wait is not None:
        message.oldest_wait.FromTimedelta(figures.oldest_wait)
    if figures.work is not None:
        message.work_seconds = figures.work.total_seconds()
    return message


def selector_to_proto(selector: PauseSelector) -> pb.QueueSelector:
    return pb.QueueSelector(tenant_id=selector.tenant_id, pool=selector.pool, model=selector.model)


def proto_to_selector(message: pb.QueueSelector) -> PauseSelector:
    """Raises InvalidRequest when it names nothing."""
    selector = PauseSelector(message.tenant_id, message.pool, message.model)
    selector.check()
    return selector
