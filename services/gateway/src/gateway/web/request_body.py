"""Request bodies: the budget for their bytes, of the process and of each key, and the JSON of hot routes.

A body that arrives in one piece is in memory before anything can refuse it, and takes nothing of the budget. All others
take their `content-length` before they are read, or what arrives when there is none.
"""

import re
from collections.abc import Iterable
from typing import NoReturn, TypeVar

import msgspec
from chassis.errors import InvalidRequest
from chassis.http import RequestTooLarge, Scope
from chassis.in_flight import InFlight, InFlightLimit
from chassis.tenancy import current_caller

from gateway.web.errors import InvalidJson

# The server reads this much of a body before it waits for the application.
MAX_BUFFERED_BYTES = 64 * 1024

T = TypeVar("T")

# msgspec: "Expected `int`, got `str` - at `$.messages[0].role`".
_MESSAGE = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING_FIELD = re.compile(r"missing required field `(?P<field>[^`]+)`")


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


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body into a struct that has only the fields that the gateway checks.

    Raises InvalidJson, or InvalidRequest with the dotted name of the parameter.
    """
    try:
        body.decode()  # msgspec does not check skipped fields, and peers expect valid UTF-8
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _raise_invalid(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidJson("The body is not valid JSON.") from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None


def _raise_invalid(text: str) -> NoReturn:
    match = _MESSAGE.match(text)
    problem, path = (match["problem"], match["path"] or "") if match else (text, "")
    missing = _MISSING_FIELD.search(problem)
    param = ".".join(part for part in (path, missing["field"] if missing else "") if part)
    raise InvalidRequest(f"{param or 'body'}: {problem}.", param=param or None)
