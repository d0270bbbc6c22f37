"""Changes of the configuration as messages."""

import orjson
from argosy.orchestration.v1 import configuration_pb2 as pb
from values.protos import timestamp_to_proto

from orchestrator.configuration.model import Change, Difference, Document
from orchestrator.configuration.rollback import RollbackResult, Scope


def proto_to_scope(message: pb.ConfigurationKey) -> Scope:
    return Scope(message.kind, message.tenant_id, message.name)


def difference_to_proto(difference: Difference) -> pb.ConfigurationDifference:
    key = difference.key
    return pb.ConfigurationDifference(
        key=pb.ConfigurationKey(kind=key.kind, tenant_id=key.tenant_id, name=key.name),
        before_json=_to_json(difference.before),
        after_json=_to_json(difference.after),
    )


def change_to_proto(change: Change) -> pb.ConfigurationChange:
    return pb.ConfigurationChange(
        version=change.version,
        difference=difference_to_proto(Difference(change.key, change.before, change.after)),
        author=change.author,
        reason=change.reason,
        at=timestamp_to_proto(change.at),
    )


def rollback_to_proto(result: RollbackResult) -> pb.RollbackConfigurationResponse:
    return pb.RollbackConfigurationResponse(
        restored=map(difference_to_proto, result.restored),
        kept=map(difference_to_proto, result.kept),
        version=result.version,
    )


def _to_json(document: Document | None) -> bytes:
    return b"" if document is None else orjson.dumps(document)
