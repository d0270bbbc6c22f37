"""Changes of the configuration: who changed what, when, why, and how to undo it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from chassis.errors import ArgosyError, InvalidRequest, Kind
from chassis.tenancy import Principal

ALL_TENANTS: Final = "*"
MAX_REASON_CHARACTERS: Final = 500
MAX_AUTHOR_CHARACTERS: Final = 256

Document = Mapping[str, Any]
"""An object of the configuration as JSON, without secrets."""


class ConfigurationVersionUnknown(ArgosyError):
    """The configuration has no such version."""

    kind, reason = Kind.NOT_FOUND, "CONFIGURATION_VERSION_UNKNOWN"


class ConfigurationKind(StrEnum):
    """What a change changes. A new kind is a line here."""

    ROUTE = "route"
    UPSTREAM = "upstream"
    CREDENTIAL = "credential"
    DATA_KEY = "data_key"
    FLAG = "flag"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Edit:
    """Who changes the configuration, and why."""

    author: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """An object of the configuration. `tenant_id` is `ALL_TENANTS` for what holds for all."""

    kind: str
    tenant_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One object before and after a version. None: it did not exist, or does not any more."""

    version: int
    key: ObjectKey
    before: Document | None
    after: Document | None
    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes to list; an empty text matches all."""

    limit: int
    before_version: int = 0
    """Only older ones; 0 for the newest."""
    kind: str = ""
    tenant_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not the same in two versions."""

    key: ObjectKey
    before: Document | None
    after: Document | None


def check_edit(author: str, reason: str) -> Edit:
    """Raises `InvalidRequest` for a text that is too long or has control characters."""
    if len(reason) > MAX_REASON_CHARACTERS or not (reason.isprintable() or not reason):
        raise InvalidRequest(f"The reason is one line of at most {MAX_REASON_CHARACTERS} characters.", param="reason")
    return Edit(author[:MAX_AUTHOR_CHARACTERS], reason)


def author_of(principal: Principal) -> str:
    """Return how the log names a caller: the user if there is one, else the key."""
    return principal.user_id or principal.key_id or principal.tenant_id


def differences(changes: Iterable[Change]) -> Sequence[Difference]:
    """Return what all changes of an interval, in the order of their versions, amount to."""
    first: dict[ObjectKey, Document | None] = {}
    last: dict[ObjectKey, Document | None] = {}
    for change in changes:
        first.setdefault(change.key, change.before)
        last[change.key] = change.after
    return [Difference(key, first[key], last[key]) for key in first if first[key] != last[key]]


def inverse(changes: Iterable[Change]) -> Sequence[Difference]:
    """Return what undoes the changes, those made last first: what needs another object was made after it."""
    found = [Difference(one.key, one.after, one.before) for one in differences(changes)]
    return list(reversed(found))
