"""`/admin/v1/prices` and `/admin/v1/tenants/{id}/budget`: what things cost, and who may spend how much."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.domain.accounts import Price
from gateway.domain.money import NanoUsd, from_usd, to_usd

from .account import BudgetRead
from .ports import ADMINS_ONLY, AccountsPort, AdministrationPort, CurrentCaller, PathId
from .schemas import Identified, ListOf

router = APIRouter(prefix="/admin/v1", tags=["Administration"], dependencies=[ADMINS_ONLY])

# The price book's own bound: a million dollars for a million tokens.
NanoPrice = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Usd = Annotated[str, Field(max_length=32, description="An exact decimal amount of US dollars.", examples=["12.50"])]


class BudgetWrite(BaseModel):
    """A cap to set."""

    model_config = ConfigDict(extra="forbid")

    cap_usd: Usd


class PriceCreate(BaseModel):
    """A price to put in force now, in nano-USD per million tokens. A zero is a price; a missing one is none."""

    model_config = ConfigDict(extra="forbid")

    price_key: Annotated[str, Field(max_length=256, pattern=r"^[^/\x00-\x20\x7f]+/[^\x00-\x20\x7f]+$")]
    input_per_million_nano_usd: NanoPrice
    output_per_million_nano_usd: NanoPrice


class PriceRead(Identified):
    """A price in force. Its id is its version in the price book."""

    object: Literal["price"] = "price"
    price_key: str
    input_per_million_nano_usd: int
    output_per_million_nano_usd: int
    input_per_million_usd: str
    output_per_million_usd: str
    effective_at: int

    @classmethod
    def of(cls, price: Price) -> Self:
        """Show a price."""
        return cls(
            id=price.version,
            price_key=price.price_key,
            input_per_million_nano_usd=price.input_per_million,
            output_per_million_nano_usd=price.output_per_million,
            input_per_million_usd=to_usd(price.input_per_million),
            output_per_million_usd=to_usd(price.output_per_million),
            effective_at=int(price.effective_at.timestamp()),
        )


@router.put("/tenants/{tenant_id}/budget")
async def set_budget(
    tenant_id: PathId,
    body: BudgetWrite,
    caller: CurrentCaller,
    accounts: AccountsPort,
    administration: AdministrationPort,
) -> BudgetRead:
    """Set the most that a tenant may spend. Safe to repeat."""
    cap = from_usd(body.cap_usd, param="cap_usd")
    await administration.note(caller, tenant_id, "budget.set", tenant_id, cap_usd=to_usd(cap))
    return BudgetRead.of(tenant_id, await accounts.set_budget(tenant_id, cap))


@router.get("/prices")
async def list_prices(accounts: AccountsPort) -> ListOf[PriceRead]:
    """List the prices in force, by price key."""
    return ListOf.of(PriceRead.of(price) for price in await accounts.prices())


@router.post("/prices", status_code=201)
async def set_price(
    body: PriceCreate, caller: CurrentCaller, accounts: AccountsPort, administration: AdministrationPort
) -> PriceRead:
    """Put a price in force from now on. What was reserved before keeps the price it was reserved at."""
    input_price, output_price = NanoUsd(body.input_per_million_nano_usd), NanoUsd(body.output_per_million_nano_usd)
    await administration.note(
        caller,
        caller.principal.tenant_id,
        "price.set",
        body.price_key,
        input_per_million_usd=to_usd(input_price),
        output_per_million_usd=to_usd(output_price),
    )
    return PriceRead.of(await accounts.set_price(body.price_key, input_price, output_price))
