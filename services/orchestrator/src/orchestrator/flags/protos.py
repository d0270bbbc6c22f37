"""Flags as messages."""

import orjson
from argosy.orchestration.v1 import flags_pb2 as pb
from chassis.errors import InvalidRequest
from values.protos import timestamp_to_proto

from orchestrator.configuration.model import Change
from orchestrator.flags.documents import document_to_flag, flag_to_document
from orchestrator.flags.model import Flag, StoredFlag


def stored_to_proto(stored: StoredFlag) -> pb.Flag:
    return pb.Flag(
        key=stored.flag.key,
        document=orjson.dumps(flag_to_document(stored.flag)),
        version=stored.version,
        updated_at=timestamp_to_proto(stored.updated_at),
    )


def change_to_proto(change: Change) -> pb.FlagChange:
    return pb.FlagChange(
        version=change.version,
        before=b"" if change.before is None else orjson.dumps(change.before),
        after=b"" if change.after is None else orjson.dumps(change.after),
        author=change.author,
        reason=change.reason,
        changed_at=timestamp_to_proto(change.at),
    )


def proto_to_flag(key: str, document: bytes) -> Flag:
    """Raises InvalidRequest."""
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the flag is not JSON: {error}", param="flag") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("the flag is not a JSON object", param="flag")
    return document_to_flag(key, parsed)
