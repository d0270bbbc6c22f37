"""Settlements that an operator looks at, and what can be decided about them."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.budgets.schemas import Usd
from gateway.usage.schemas import SettlementRead
from gateway.web.schemas import Id, OptionalName, Resource, StrictBody


class RequestSettlementRead(Resource):
    """The settlement of one provider call. Its id is `request_id:attempt`."""

    object: Literal["settlement"] = "settlement"
    tenant_id: str
    request_id: str
    settlement: SettlementRead


class ExposureReconcile(StrictBody):
    """`written_off`: the operator bears it. `billed`: the tenant pays `billed_usd`, or all of it."""

    tenant_id: Id
    attempt: Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
    decision: Literal["written_off", "billed"]
    billed_usd: Usd | None = None
    note: OptionalName = ""
