"""`/admin/v1/prices`."""

from typing import Annotated

from chassis.errors import ArgosyError, Kind
from fastapi import APIRouter, Depends, Path, Query
from values.money import NanoUsd, nano_usd_to_usd

from gateway.audit.record import RecordAudit
from gateway.prices.metering_client import PricesClient
from gateway.prices.schemas import PriceCreate, PriceKey, PriceRead, PriceRollback, PriceVersionList, class_prices
from gateway.web.dependencies import DECIMAL, CurrentCaller, provided
from gateway.web.schemas import Id, ListResponse


class PriceNotFound(ArgosyError):
    """The key has had no such price."""

    kind, reason = Kind.NOT_FOUND, "PRICE_NOT_FOUND"


router = APIRouter(prefix="/admin/v1/prices", tags=["Administration"])

PAGE = 100

# A model's name may have slashes, so that the key is not one segment of the path.
Key = Annotated[PriceKey, Path()]
Prices = Annotated[PricesClient, Depends(provided(PricesClient))]
Audit = Annotated[RecordAudit, Depends(provided(RecordAudit))]


@router.get("")
async def list_prices(prices: Prices) -> ListResponse[PriceRead]:
    """List the prices in force, by price key."""
    return await prices.list()


@router.post("", status_code=201)
async def set_price(body: PriceCreate, caller: CurrentCaller, prices: Prices, record_audit: Audit) -> PriceRead:
    """Put a price in force from now on. Existing reservations keep their price."""
    input_price, output_price = NanoUsd(body.input_per_million_nano_usd), NanoUsd(body.output_per_million_nano_usd)
    classes = body.classes_per_million_nano_usd
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "price.set",
        body.price_key,
        lambda: prices.set(body.price_key, input_price, output_price, body.reason, class_prices(classes)),
        input_per_million_usd=nano_usd_to_usd(input_price),
        output_per_million_usd=nano_usd_to_usd(output_price),
        **{f"{name}_per_million_usd": nano_usd_to_usd(NanoUsd(amount)) for name, amount in classes.items()},
    )


@router.get("/{price_key:path}/versions")
async def list_price_versions(
    price_key: Key,
    prices: Prices,
    limit: Annotated[int, Query(ge=1, le=100), DECIMAL] = 20,
    before: Annotated[Id | None, Query(description="Only prices before the one of this id.")] = None,
) -> PriceVersionList:
    """List the prices that a key has had, the newest first, with author and reason."""
    return await prices.versions(price_key, limit, before or "")


@router.post("/{price_key:path}/rollback", status_code=201)
async def roll_back_price(
    price_key: Key, body: PriceRollback, caller: CurrentCaller, prices: Prices, record_audit: Audit
) -> PriceRead:
    """Put an earlier price of a key in force again, as a new one. What was reserved and billed keeps its price."""
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "price.rollback",
        price_key,
        lambda: _restore(prices, price_key, body),
        reason=body.reason,
        version=body.id,
    )


async def _restore(prices: PricesClient, price_key: str, body: PriceRollback) -> PriceRead:
    before = ""
    while True:
        page = await prices.versions(price_key, PAGE, before)
        for one in page.data:
            if one.id == body.id:
                amounts = NanoUsd(one.input_per_million_nano_usd), NanoUsd(one.output_per_million_nano_usd)
                classes = class_prices(one.classes_per_million_nano_usd)
                return await prices.set(price_key, *amounts, body.reason, classes)
        if not page.has_more:
            raise PriceNotFound(f"The key {price_key!r} has had no price {body.id!r}.", param="id")
        before = page.data[-1].id
