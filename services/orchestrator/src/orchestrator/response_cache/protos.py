"""What a request asks of the cache, as a message."""

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.protos import proto_to_duration

from orchestrator.response_cache.model import CacheControl, CacheMode

_PROTO_TO_MODE: dict[int, CacheMode] = {
    pb.CACHE_MODE_OFF: CacheMode.OFF,
    pb.CACHE_MODE_READ: CacheMode.READ,
    pb.CACHE_MODE_WRITE: CacheMode.WRITE,
    pb.CACHE_MODE_ON: CacheMode.ON,
}


def proto_to_cache_control(message: pb.CacheControl) -> CacheControl:
    """Read a message; a mode of a newer version of the wire is not said."""
    max_age = proto_to_duration(message.max_age) if message.HasField("max_age") else None
    return CacheControl(_PROTO_TO_MODE.get(message.mode), max_age)
