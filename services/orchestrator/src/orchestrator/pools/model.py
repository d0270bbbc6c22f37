"""Pools of workers, their limits, and their errors."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from chassis.errors import ArgosyError, InvalidRequest, Kind

DEFAULT_POOL = "default"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?", re.ASCII)
"""Part of the names of topics, and of objects in the cluster, which have at most 63 characters."""
MAX_TENANTS = 1_000


class PoolsNotSupported(ArgosyError):
    """This installation has no cluster to make workers on. Name pools in its configuration instead."""

    kind, reason = Kind.UNPROCESSABLE, "POOLS_NOT_SUPPORTED"


class PoolNotFound(ArgosyError):
    """No pool of this name was created here. Pools of the configuration cannot be changed at run time."""

    kind, reason = Kind.NOT_FOUND, "POOL_NOT_FOUND"


class PoolNameTaken(ArgosyError):
    """The configuration, or something else in the cluster, uses this name; choose another."""

    kind, reason = Kind.CONFLICT, "POOL_NAME_TAKEN"


class PoolQuotaExceeded(ArgosyError):
    """The installation allows no further pool, or not so many replicas over all pools."""

    kind, reason = Kind.EXHAUSTED, "POOL_QUOTA_EXCEEDED"


class TenantHasPool(ArgosyError):
    """A tenant has one pool at most, and this one has another; take it from there first."""

    kind, reason = Kind.CONFLICT, "TENANT_HAS_POOL"


class PoolState(StrEnum):
    """Where a pool stands."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """What a pool is to be."""

    name: str
    tenant_ids: frozenset[str]
    min_replicas: int
    max_replicas: int

    def check(self) -> None:
        """Raises InvalidRequest, PoolNameTaken."""
        if NAME.fullmatch(self.name) is None:
            raise InvalidRequest(
                "name is not 1 to 30 small letters, digits and dashes, a letter first, no dash last", param="name"
            )
        if self.name == DEFAULT_POOL:
            raise PoolNameTaken("default is the pool of all tenants that have no other", param="name")
        if not 1 <= len(self.tenant_ids) <= MAX_TENANTS:
            raise InvalidRequest(f"a pool has 1 to {MAX_TENANTS} tenants", param="tenant_ids")
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise InvalidRequest("max_replicas is at least 1, and at least min_replicas", param="max_replicas")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as it stands."""

    name: str
    tenant_ids: frozenset[str]
    """Whose jobs run here; none while it drains."""
    min_replicas: int
    max_replicas: int
    created_at: datetime
    draining_since: datetime | None = None
    unfinished_jobs: int = 0

    @property
    def state(self) -> PoolState:
        return PoolState.ACTIVE if self.draining_since is None else PoolState.DRAINING


@dataclass(frozen=True, slots=True)
class PoolQuota:
    """What the installation allows over all pools."""

    max_pools: int
    max_replicas: int


class PoolWorkers(NamedTuple):
    """The workers of a pool, as the cluster has them."""

    replicas: int
    ready: int
