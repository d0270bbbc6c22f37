"""Errors as gRPC statuses: a code for people and proxies, `ErrorInfo` with kind and reason for the peer's chassis."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from chassis.errors import ArgosyError, DeadlineExceeded, Kind, RemoteError, Unavailable

DOMAIN: Final = "argosy"
DETAILS_KEY: Final = "grpc-status-details-bin"

# A test checks that no kind is missing. Several kinds share a code; the kind itself travels in ErrorInfo.
STATUS: Final[dict[Kind, grpc.StatusCode]] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.EXPIRED: grpc.StatusCode.NOT_FOUND,
    Kind.CONFLICT: grpc.StatusCode.ABORTED,
    Kind.UNPROCESSABLE: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.THROTTLED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.CANCELLED: grpc.StatusCode.CANCELLED,
    # Not UNAVAILABLE: the service itself is healthy, and a proxy must not remove it because its provider failed.
    Kind.UPSTREAM: grpc.StatusCode.UNKNOWN,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}

# Kinds of statuses without ErrorInfo: they come from gRPC itself or from other software.
KINDS: Final[dict[grpc.StatusCode, Kind]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Kind.INVALID,
    grpc.StatusCode.UNAUTHENTICATED: Kind.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Kind.DENIED,
    grpc.StatusCode.NOT_FOUND: Kind.NOT_FOUND,
    grpc.StatusCode.ABORTED: Kind.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: Kind.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.TOO_LARGE,
}

BY_VALUE: Final = {kind.value: kind for kind in Kind}
BY_CODE: Final = {code.value[0]: code for code in grpc.StatusCode}


def to_metadata(error: ArgosyError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that carries `error` to the peer."""
    fields = {**error.details, "kind": error.kind.value}
    if error.param is not None:
        fields["param"] = error.param
    details = [_pack(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=fields))]
    if error.retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(_pack(retry))
    status = Status(code=STATUS[error.kind].value[0], message=error.message, details=details)
    return ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(peer: str, error: grpc.aio.AioRpcError) -> ArgosyError:
    """Convert gRPC's exception for a call to `peer`."""
    trailing: Any = error.trailing_metadata() or ()
    details = next((value for key, value in trailing if key == DETAILS_KEY), b"")
    return from_status(peer, error.code().value[0], error.details() or "", details)


def from_status(peer: str, code: int, message: str, details: bytes) -> ArgosyError:
    """Convert a status of `peer`; `details` is a serialized google.rpc.Status, or empty."""
    error = _from_details(details)
    if error is not None:
        return error
    known = BY_CODE.get(code, grpc.StatusCode.UNKNOWN)
    if known in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        # A peer that cancels a call is shutting down.
        return Unavailable(f"{peer} does not answer")
    if known is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{peer} did not answer in time")
    kind = KINDS.get(known, Kind.INTERNAL)
    return RemoteError(kind, known.name, f"{peer}: {message or known.name}")


def _from_details(details: bytes) -> RemoteError | None:
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
            retry_after = retry.retry_delay.ToTimedelta()
        elif detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    kind = BY_VALUE.get(info.metadata.get("kind", ""))
    if info.domain != DOMAIN or kind is None:
        return None
    further = dict(info.metadata)
    del further["kind"]
    param = further.pop("param", None)
    return RemoteError(kind, info.reason, status.message, param=param, retry_after=retry_after, details=further)


def _pack(message: ErrorInfo | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
