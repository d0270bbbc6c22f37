"""Pools, as the API shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from gateway.web.schemas import Id, StrictBody

MAX_TENANTS, MAX_REPLICAS = 1_000, 10_000
POOL_NAME = r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$"

TenantIds = Annotated[list[Id], Field(min_length=1, max_length=MAX_TENANTS)]


class PoolPut(StrictBody):
    """What a pool is to be."""

    tenant_ids: TenantIds = Field(description="Whose jobs run here: all of them, and no others.")
    min_replicas: int = Field(
        0, ge=0, le=MAX_REPLICAS, description="Workers that it has at least; with 0 it has none while it has no jobs."
    )
    max_replicas: int = Field(ge=1, le=MAX_REPLICAS, description="Workers that it has at most.")

    @field_validator("max_replicas")
    @classmethod
    def _in_order(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min_replicas", 0):
            raise ValueError("max_replicas must not be below min_replicas")
        return value


class PoolRead(BaseModel):
    """A pool as it is."""

    object: Literal["pool"] = "pool"
    name: str
    tenant_ids: list[str] = Field(description="Whose jobs run here; none while it drains.")
    min_replicas: int
    max_replicas: int
    state: Literal["active", "draining"] = Field(
        description="`draining`: it takes no new jobs, finishes those that it has, and is removed then."
    )
    created_at: int
    unfinished_jobs: int = Field(description="Its jobs that have not ended, quarantined ones included.")


class PoolStatus(PoolRead):
    """A pool as it is, with its workers as the cluster has them."""

    replicas: int | None = Field(description="Workers that the cluster runs for it; null: it has none of its objects.")
    ready_replicas: int | None = Field(description="Those of them that are ready.")


class PoolList(BaseModel):
    """All pools that were made at run time."""

    object: Literal["list"] = "list"
    data: list[PoolRead]
