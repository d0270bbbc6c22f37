"""What a caller asks for, and who that is."""

import re
from dataclasses import dataclass
from datetime import timedelta

from chassis.errors import InvalidRequest
from chassis.tenancy import Principal

REQUEST_ID = re.compile(r"[!-~]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion to answer. `time` is what the caller gives; None leaves it to us."""

    request_id: str
    principal: Principal
    model: str
    body: bytes
    stream: bool
    time: timedelta | None = None


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed. `dimensions` 0 is the model's own."""

    request_id: str
    principal: Principal
    model: str
    inputs: tuple[str, ...]
    dimensions: int = 0
    time: timedelta | None = None


def check_request_id(request_id: str) -> None:
    """Raise `InvalidRequest` for an id that could not be written down: it is a key in two databases."""
    if REQUEST_ID.fullmatch(request_id) is None:
        raise InvalidRequest("request_id is not 1 to 128 visible ASCII characters", param="request_id")
