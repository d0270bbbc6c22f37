"""`/v1/usage` and `/v1/requests/{id}`: what a tenant used, and what one request cost."""

from typing import Annotated

from chassis.errors import InvalidRequest
from fastapi import APIRouter, Depends, Query

from gateway.usage.metering_client import UsageClient
from gateway.usage.schemas import RequestStatement, UsageRead
from gateway.web.dependencies import PathId, provided
from gateway.web.schemas import Timestamp

router = APIRouter(prefix="/v1", tags=["Usage"])

Usage = Annotated[UsageClient, Depends(provided(UsageClient))]
QueryTimestamp = Annotated[Timestamp | None, Query(description="RFC 3339, or seconds since 1970.")]
ByDay = Annotated[bool, Query(description="A row for each day; days begin at midnight UTC.")]


@router.get("/usage")
async def get_usage(
    usage: Usage, start: QueryTimestamp = None, end: QueryTimestamp = None, *, by_day: ByDay = False
) -> UsageRead:
    """Sum up usage from `start` (inclusive) to `end` (exclusive). Days are those of UTC."""
    if start is not None and end is not None and end <= start:
        raise InvalidRequest("end must be after start.", param="end")
    return await usage.get(start, end, by_day=by_day)


@router.get("/requests/{request_id}")
async def get_request(request_id: PathId, usage: Usage) -> RequestStatement:
    """Read the cost statement of a request: its reservation, the settlement of each call, its ledger entries."""
    return await usage.get_request_statement(request_id)
