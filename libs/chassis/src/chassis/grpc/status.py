"""Errors on the gRPC wire: a status code for people and proxies, `ErrorInfo` for the peer's chassis."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from chassis.errors import ArgosyError, DeadlineExceeded, Kind, RemoteError, Unavailable
from chassis.grpc.protos import duration_to_proto, proto_to_duration

DOMAIN: Final = "argosy"
DETAILS_KEY: Final = "grpc-status-details-bin"

# Total, and a test keeps it so. Several kinds share a code: the kind itself travels in ErrorInfo.
STATUS: Final[dict[Kind, grpc.StatusCode]] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.CONFLICT: grpc.StatusCode.ABORTED,
    Kind.TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.THROTTLED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.CANCELLED: grpc.StatusCode.CANCELLED,
    # Not UNAVAILABLE: the service is well, what it asked is not, and a proxy must not take the service out for it.
    Kind.UPSTREAM: grpc.StatusCode.UNKNOWN,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}

# What a status means that no chassis wrote: gRPC itself, or a stranger.
KINDS: Final[dict[grpc.StatusCode, Kind]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Kind.INVALID,
    grpc.StatusCode.UNAUTHENTICATED: Kind.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Kind.DENIED,
    grpc.StatusCode.NOT_FOUND: Kind.NOT_FOUND,
    grpc.StatusCode.ABORTED: Kind.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: Kind.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.TOO_LARGE,
}

# How gRPC's core says that it had no connection to put the call on.
UNCONNECTED: Final = (
    "connections to all backends failing",
    "failed to connect to all addresses",
    "DNS resolution failed",
)

BY_VALUE: Final = {kind.value: kind for kind in Kind}
BY_CODE: Final = {code.value[0]: code for code in grpc.StatusCode}


def to_metadata(error: ArgosyError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that carries `error` to a peer."""
    facts = {"kind": error.kind.value}
    if error.param is not None:
        facts["param"] = error.param
    details = [_packed(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts))]
    if error.retry_after is not None:
        details.append(_packed(RetryInfo(retry_delay=duration_to_proto(error.retry_after))))
    status = Status(code=STATUS[error.kind].value[0], message=error.message, details=details)
    return ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(peer: str, error: grpc.aio.AioRpcError) -> ArgosyError:
    """Return what a failed call to `peer` means here."""
    trailing: Any = error.trailing_metadata() or ()
    details = next((value for key, value in trailing if key == DETAILS_KEY), b"")
    return from_status(peer, error.code().value[0], error.details() or "", details)


def from_status(peer: str, code: int, message: str, details: bytes) -> ArgosyError:
    """Return what a status of `peer` means here; `details` is a serialized google.rpc.Status, or empty."""
    told = _told(details)
    if told is not None:
        return told
    known = BY_CODE.get(code, grpc.StatusCode.UNKNOWN)
    if known in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        # A peer that cancels what it was asked is shutting down.
        return Unavailable(f"{peer} does not answer")
    if known is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{peer} did not answer in time")
    kind = KINDS.get(known, Kind.INTERNAL)
    return RemoteError(kind, known.name, f"{peer}: {message or known.name}")


def never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call certainly never left this process, so that making it again cannot do anything twice.

    gRPC has no code for it, only these words; other words count as sent.
    """
    return error.code() is grpc.StatusCode.UNAVAILABLE and any(
        words in (error.details() or "") for words in UNCONNECTED
    )


def _told(details: bytes) -> RemoteError | None:
    if not details:
        return None
    try:
        status = Status.FromString(details)
    except DecodeError:
        return None
    info, retry = ErrorInfo(), RetryInfo()
    retry_after: timedelta | None = None
    for detail in status.details:
        if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(retry):
            retry_after = proto_to_duration(retry.retry_delay)
        elif detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    kind = BY_VALUE.get(info.metadata.get("kind", ""))
    if info.domain != DOMAIN or kind is None:
        return None
    param = info.metadata.get("param")
    return RemoteError(kind, info.reason, status.message, param=param, retry_after=retry_after)


def _packed(message: ErrorInfo | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
