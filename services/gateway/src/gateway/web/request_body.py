"""The budget for bytes of request bodies, of the process and of each key.

A body that arrives in one piece is in memory before anything can refuse it, and takes nothing of the budget. All others
take their `content-length` before they are read, or what arrives when there is none.
"""

from collections.abc import Iterable

from chassis.errors import InvalidRequest
from chassis.http import RequestTooLarge, Scope
from chassis.in_flight import InFlight, InFlightLimit
from chassis.tenancy import current_caller

# The server reads this much of a body before it waits for the application.
MAX_BUFFERED_BYTES = 64 * 1024


class RequestBodies:
    """The budget; one per process."""

    def __init__(self, budget: InFlightLimit) -> None:
        self._budget = budget

    def reserve(self, scope: Scope, max_bytes: int) -> InFlight:
        """Take the declared size from the caller's budget, if it is more than the server buffers.

        Raises RequestTooLarge, Overloaded, TooMuchInFlight.
        """
        declared_bytes = content_length(scope["headers"])
        if declared_bytes > max_bytes:
            raise RequestTooLarge(f"The request's body is larger than {max_bytes} bytes.")
        key = current_caller().principal.key_id
        return self._budget.reserve(key, declared_bytes if declared_bytes > MAX_BUFFERED_BYTES else 0)


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """0 without the header. The server has checked that there is at most one, and that it is a number."""
    for name, value in headers:
        if name == b"content-length":
            try:
                return int(value)
            except ValueError:
                raise InvalidRequest("The content-length is not a number.") from None
    return 0
