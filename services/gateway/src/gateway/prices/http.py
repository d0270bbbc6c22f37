"""`/admin/v1/prices`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from values.money import NanoUsd, nano_usd_to_usd

from gateway.audit.record import RecordAudit
from gateway.prices.metering_client import PricesClient
from gateway.prices.schemas import PriceCreate, PriceRead
from gateway.web.dependencies import CurrentCaller, provided
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/admin/v1/prices", tags=["Administration"])

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
    return await record_audit(
        caller,
        caller.principal.tenant_id,
        "price.set",
        body.price_key,
        lambda: prices.set(body.price_key, input_price, output_price),
        input_per_million_usd=nano_usd_to_usd(input_price),
        output_per_million_usd=nano_usd_to_usd(output_price),
    )
