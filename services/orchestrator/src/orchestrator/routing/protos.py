"""Routes as messages."""

import orjson
from argosy.orchestration.v1 import orchestration_pb2, routes_pb2
from chassis.errors import InvalidRequest
from values.protos import timestamp_to_proto

from orchestrator.routing.document import entry_to_document
from orchestrator.routing.model import StoredRoute, Task

TASK_TO_PROTO = {
    Task.CHAT: orchestration_pb2.MODEL_TASK_CHAT,
    Task.EMBEDDING: orchestration_pb2.MODEL_TASK_EMBEDDING,
    Task.RERANK: orchestration_pb2.MODEL_TASK_RERANK,
}


def stored_to_proto(stored: StoredRoute) -> routes_pb2.Route:
    return routes_pb2.Route(
        tenant_id=stored.entry.tenant_id,
        model=stored.entry.model,
        document=orjson.dumps(entry_to_document(stored.entry)),
        version=stored.version,
        created_at=timestamp_to_proto(stored.created_at),
    )


def proto_to_document(text: bytes) -> object:
    """Raises InvalidRequest."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The route is not JSON: {error}.", param="document") from error
