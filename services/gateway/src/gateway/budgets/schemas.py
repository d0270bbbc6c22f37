"""Budgets, in exact US dollars."""

from typing import Annotated, Literal

from chassis.errors import InvalidRequest
from pydantic import BaseModel, Field
from values.money import NanoUsd, usd_to_nano_usd

from gateway.web.schemas import StrictBody

Usd = Annotated[str, Field(max_length=32, description="An exact decimal amount of US dollars.", examples=["12.50"])]


class BudgetRead(BaseModel):
    """What a tenant may spend: spent + held + exposed never exceeds cap.

    `exposed_usd` is what calls may have cost that the tenant left or stopped, until an operator has reconciled it.
    """

    object: Literal["budget"] = "budget"
    tenant_id: str
    cap_usd: str
    spent_usd: str
    held_usd: str
    exposed_usd: str


class BudgetList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BudgetRead]
    has_more: Literal[False] = False


class BudgetUpdate(StrictBody):
    cap_usd: Usd


def parse_usd(text: str, *, param: str) -> NanoUsd:
    """Raises InvalidRequest naming `param` unless it is an exact amount in nano-dollars."""
    try:
        return usd_to_nano_usd(text)
    except ValueError as error:
        raise InvalidRequest(f"{param} {error}.", param=param) from None
