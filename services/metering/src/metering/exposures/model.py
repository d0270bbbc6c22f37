"""Settlements for operators: open exposures and clamped usage, and the decision about an exposure."""

from dataclasses import dataclass
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.money import NanoUsd

from metering.settlement.model import Decision, Settlement

MAX_NOTE_CHARACTERS = 512
MAX_PAGE = 1_000
DEFAULT_PAGE = 20


class ExposureNotFound(ArgosyError):
    """The tenant has no such provider call, or nothing of it is exposed."""

    kind, reason = Kind.NOT_FOUND, "EXPOSURE_NOT_FOUND"


class ExposureReconciled(ArgosyError):
    """The exposure was closed by another decision before; a correction is a new entry, not a second decision."""

    kind, reason = Kind.CONFLICT, "EXPOSURE_RECONCILED"


class SettlementFilter(StrEnum):
    OPEN_EXPOSURE = "open_exposure"
    USAGE_CLAMPED = "usage_clamped"


@dataclass(frozen=True, slots=True)
class RequestSettlement:
    """A settlement with its request."""

    tenant_id: str
    request_id: str
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class SettlementPage:
    """At most `limit` settlements that come after one, newest first."""

    filter: SettlementFilter
    limit: int = DEFAULT_PAGE
    after_request_id: str = ""
    after_attempt: int = 0


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """The decision of `key_id` about the exposure of one call; `billed` None is all of it."""

    tenant_id: str
    request_id: str
    attempt: int
    decision: Decision
    billed: NanoUsd | None
    key_id: str
    note: str
