"""Chat completions over gRPC."""

from contextlib import aclosing
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.roles import current_member

from orchestrator.chat.generate import ChatCompletions
from orchestrator.chat.model import Finished
from orchestrator.chat.protos import event_to_proto, proto_to_chat_request
from orchestrator.telemetry import RequestObservation
from orchestrator.workers.model import Chunk


async def generate(completions: ChatCompletions, request: pb.GenerateRequest, context: Any) -> None:
    """Answer a chat completion, event by event. Cancelling the call is a disconnect of the client."""
    chat_request = proto_to_chat_request(request, current_member(), context.time_remaining())
    with RequestObservation("generation", request.model) as observation:
        async with aclosing(completions.generate(chat_request)) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    observation.first_chunk()
                elif isinstance(event, Finished):
                    observation.finished(event.usage, event.cost, event.error)
                await context.write(event_to_proto(event))
