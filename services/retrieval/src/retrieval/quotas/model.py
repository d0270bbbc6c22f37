"""Quotas of plans: how much a tenant may keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis.errors import ArgosyError, Kind


class StorageQuotaExceeded(ArgosyError):
    """The tenant keeps as much as its plan allows: delete something, or get another plan. Nothing was stored."""

    kind, reason = Kind.EXHAUSTED, "STORAGE_QUOTA_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant may keep; None is without limit. A chunk is a passage of a file in a store, with its vector."""

    files: int | None = None
    file_bytes: int | None = None
    vector_stores: int | None = None
    chunks: int | None = None


UNLIMITED = Quota()


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quota of each plan."""

    default: Quota = UNLIMITED
    plans: Mapping[str, Quota] = field(default_factory=dict)

    def of(self, plan: str) -> Quota:
        return self.plans.get(plan, self.default)


NO_QUOTAS = Quotas()


def check_quota(what: str, limit: int | None, used: int, added: int) -> None:
    """Raise StorageQuotaExceeded when what is used and what is added are more than the limit."""
    if limit is not None and used + added > limit:
        words = what.replace("_", " ")
        message = f"the plan allows {limit} {words}; {used} are in use, and {added} more were to be added"
        raise StorageQuotaExceeded(message, param=what)
