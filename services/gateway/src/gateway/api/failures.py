"""What a client is told when something fails."""

from chassis.errors import ArgosyError, Internal, Kind, RemoteFailure, Unavailable
from chassis.http import ClientGone
from chassis.telemetry import logger
from starlette.requests import ClientDisconnect

log = logger("gateway")

UNEXPLAINED = "Something broke on our side. The request's id says where to look."


def told(error: Exception, **where: str) -> ArgosyError:
    """Answer what a client may know of an exception; what it may not is logged here, with `where`."""
    if isinstance(error, ClientDisconnect):
        return ClientGone("The client went away while it was sending.")
    if not isinstance(error, ArgosyError):
        log.error("request_broke", exc_info=error, **where)
        return Internal(UNEXPLAINED)
    if not isinstance(error, RemoteFailure):
        return error
    if error.kind is Kind.UNAUTHENTICATED:
        # The client's key was good; it is our own services that do not believe each other.
        log.error("principal_refused", reason=error.reason, message=error.message, **where)
        return Unavailable("The service cannot act for you right now; try again.")
    if error.kind is Kind.INTERNAL:
        log.error("peer_broke", reason=error.reason, message=error.message, **where)
        return Internal(UNEXPLAINED)
    return error
