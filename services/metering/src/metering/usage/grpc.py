"""GetUsage."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Literal

from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.money import NanoUsd
from values.protos import nano_usd_to_proto, proto_to_timestamp, timestamp_to_proto

from metering.usage.model import UsageSum
from metering.usage.sum_usage import UsageStore, sum_usage


@dataclass(frozen=True, slots=True)
class UsageHandler:
    usage: UsageStore

    async def get(self, request: metering_pb2.GetUsageRequest, principal: Principal) -> metering_pb2.GetUsageResponse:
        start, end = _instant(request, "start"), _instant(request, "end")
        sums = await sum_usage(principal.tenant_id, start, end, by_day=request.by_day, usage=self.usage)
        total = NanoUsd(sum(row.cost for row in sums))
        return metering_pb2.GetUsageResponse(rows=[sum_to_proto(row) for row in sums], total=nano_usd_to_proto(total))


def sum_to_proto(row: UsageSum) -> metering_pb2.UsageRow:
    return metering_pb2.UsageRow(
        day=None if row.day is None else timestamp_to_proto(datetime.combine(row.day, time.min, UTC)),
        price_key=row.price_key,
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=nano_usd_to_proto(row.cost),
    )


def _instant(request: metering_pb2.GetUsageRequest, field: Literal["start", "end"]) -> datetime | None:
    if not request.HasField(field):
        return None
    try:
        return proto_to_timestamp(getattr(request, field))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{field} is out of range", param=field) from error
