"""Decode the JSON body of a hot route into a typed struct: only the fields that the gateway checks."""

import re
from typing import NoReturn, TypeVar

import msgspec
from chassis.errors import InvalidRequest

from gateway.web.errors import InvalidJson

T = TypeVar("T")

# msgspec: "Expected `int`, got `str` - at `$.messages[0].role`".
_MESSAGE = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING_FIELD = re.compile(r"missing required field `(?P<field>[^`]+)`")


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Raises InvalidJson, or InvalidRequest with the dotted name of the parameter."""
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
