"""Shapes that several endpoints share, as OpenAI's SDKs read them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.web.pagination import Page

T = TypeVar("T", bound="Resource")
M = TypeVar("M")

ID_PATTERN = r"^[A-Za-z0-9_.:-]{1,128}$"
# Ids are opaque; a text that cannot be an id is refused before it is sent to another service.
Id = Annotated[str, Field(pattern=ID_PATTERN)]
# At least one visible character, and no control characters.
Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]
OptionalName = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


# Up to the year 2603: larger numbers are read as milliseconds.
UNIX_SECONDS_SCHEMA = {
    "type": "integer",
    "minimum": 0,
    "maximum": 20_000_000_000,
    "description": "Seconds since 1970.",
}


def in_utc(instant: datetime) -> datetime:
    """Convert to UTC, as all other services read it. Raises ValueError when the year is out of range there."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC the year must be between 1 and 9999") from None


def without_plus(value: object) -> object:
    """Refuse `+5`, which pydantic reads as seconds since 1970. Raises ValueError."""
    if isinstance(value, str) and value.startswith("+"):
        raise ValueError("must be RFC 3339, or seconds since 1970 in decimal digits")
    return value


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(without_plus),
    AfterValidator(in_utc),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, UNIX_SECONDS_SCHEMA]}),
]


def unix_seconds(instant: datetime) -> int:
    """Seconds since 1970, as all timestamps of the API."""
    return int(instant.timestamp())


class StrictBody(BaseModel):
    """A request body that refuses unknown fields: none is accepted and then ignored."""

    model_config = ConfigDict(extra="forbid")


class Resource(BaseModel):
    """Anything that has an id and appears in a list."""

    id: str


class ListResponse(BaseModel, Generic[T]):
    """A page of a list, newest first."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False

    @classmethod
    def of(cls, items: Iterable[T], *, has_more: bool = False) -> Self:
        data = list(items)
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first_id, last_id=last_id, has_more=has_more)

    @classmethod
    def of_page(cls, page: Page[M], to_resource: Callable[[M], T]) -> Self:
        """Make a page of records, each converted by `to_resource`."""
        return cls.of(map(to_resource, page.items), has_more=page.has_more)


class DeletedResponse(BaseModel):
    id: str
    object: str
    deleted: Literal[True] = True
