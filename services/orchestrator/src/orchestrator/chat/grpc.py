"""Chat completions over gRPC: requests and events as messages."""

from contextlib import aclosing
from typing import Any, assert_never

from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.tenancy import Principal
from values.protos import cache_outcome_to_proto, error_to_proto, proto_to_duration, usage_to_proto
from values.roles import current_member
from values.usage import CacheOutcome

from orchestrator.chat.generate import ChatCompletions
from orchestrator.chat.model import ChatEvent, ChatRequest, Finished, Started
from orchestrator.context.model import Source
from orchestrator.limits import shorter_timeout
from orchestrator.metrics import CACHE_REQUESTS
from orchestrator.response_cache.protos import proto_to_cache_control
from orchestrator.telemetry import RequestObservation
from orchestrator.workers.model import Chunk

# Bound once: looking a child up costs more than counting.
_cache_requests = {outcome: CACHE_REQUESTS.labels(outcome) for outcome in CacheOutcome}


async def generate(completions: ChatCompletions, request: pb.GenerateRequest, context: Any) -> None:
    """Answer a chat completion, event by event. Cancelling the call is a disconnect of the client."""
    chat_request = proto_to_chat_request(request, current_member(), context.time_remaining())
    with RequestObservation("generation", request.model) as observation:
        observation.flags = chat_request.flags
        async with aclosing(completions.generate(chat_request)) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    observation.first_chunk()
                elif isinstance(event, Finished):
                    observation.finished(event.usage, event.cost, event.error)
                elif event.cache is not None:
                    _cache_requests[event.cache].inc()
                await context.write(event_to_proto(event))


def proto_to_chat_request(request: pb.GenerateRequest, principal: Principal, seconds_left: float | None) -> ChatRequest:
    """Read a request; `seconds_left` is the time that the call itself has, if it is limited."""
    requested = proto_to_duration(request.deadline) if request.HasField("deadline") else None
    timeout = shorter_timeout(requested, seconds_left)
    cache = proto_to_cache_control(request.cache) if request.HasField("cache") else None
    stream = request.stream
    return ChatRequest(request.request_id, principal, request.model, request.body, stream, timeout, cache=cache)


def event_to_proto(event: ChatEvent) -> pb.GenerateResponse:
    # Filled in place: a message given to the constructor of another is copied.
    message = pb.GenerateResponse()
    match event:
        case Chunk():
            message.chunk.payloads.extend(event.payloads)
        case Started():
            message.started.SetInParent()
            message.started.soft_limit_passed = event.soft_limit_passed
            message.started.warnings.extend(event.warnings)
            message.started.sources.extend(map(_source_to_proto, event.sources))
            if event.cache is not None:
                message.started.cache = cache_outcome_to_proto(event.cache)
                message.started.cache_age_seconds = event.cache_age_seconds
        case Finished():
            _finished_to_proto(event, message.finished)
        case _:
            assert_never(event)
    return message


def _source_to_proto(source: Source) -> pb.Source:
    passage = source.passage
    return pb.Source(
        number=source.number,
        file_id=passage.file_id,
        filename=passage.filename,
        page=passage.page,
        text=passage.text,
        score=passage.score,
    )


def _finished_to_proto(finished: Finished, message: pb.Finished) -> None:
    usage_to_proto(finished.usage, message.usage)
    message.cost.nano_usd = finished.cost
    message.usage_payload = finished.usage_payload
    message.warnings.extend(finished.warnings)
    if finished.error is not None:
        error_to_proto(finished.error, message.error)
