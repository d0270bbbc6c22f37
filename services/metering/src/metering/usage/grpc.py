"""GetUsage."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal

from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from google.protobuf.timestamp_pb2 import Timestamp
from values.money import NanoUsd
from values.protos import nano_usd_to_proto, proto_to_timestamp, timestamp_to_proto

from metering.usage.model import CacheSum, RightSizingSum, UsageSum
from metering.usage.protos import classes_to_protos
from metering.usage.sum_usage import UsageStore, sum_usage


@dataclass(frozen=True, slots=True)
class UsageHandler:
    usage: UsageStore

    async def get(self, request: metering_pb2.GetUsageRequest, principal: Principal) -> metering_pb2.GetUsageResponse:
        start, end = _instant(request, "start"), _instant(request, "end")
        sums, cache, right_sizing = await sum_usage(
            principal.tenant_id, start, end, by_day=request.by_day, usage=self.usage
        )
        total = NanoUsd(sum(row.cost for row in sums))
        return metering_pb2.GetUsageResponse(
            rows=[sum_to_proto(row) for row in sums],
            total=nano_usd_to_proto(total),
            cache=[cache_sum_to_proto(row) for row in cache],
            right_sizing=[right_sizing_sum_to_proto(row) for row in right_sizing],
            right_sizing_saved=nano_usd_to_proto(NanoUsd(sum(row.right_sizing_saved for row in sums))),
        )


def sum_to_proto(row: UsageSum) -> metering_pb2.UsageRow:
    return metering_pb2.UsageRow(
        day=_day_to_proto(row.day),
        price_key=row.price_key,
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=nano_usd_to_proto(row.cost),
        cache_hits=row.cache_hits,
        saved=nano_usd_to_proto(row.saved),
        classes=classes_to_protos(row.classes),
        right_sizing_saved=nano_usd_to_proto(row.right_sizing_saved),
    )


def cache_sum_to_proto(row: CacheSum) -> metering_pb2.CacheRow:
    return metering_pb2.CacheRow(
        day=_day_to_proto(row.day),
        model=row.model,
        lookups=row.lookups,
        hits=row.hits,
        semantic_hits=row.semantic_hits,
        stale_hits=row.stale_hits,
        cost=nano_usd_to_proto(row.cost),
        saved=nano_usd_to_proto(row.saved),
    )


def right_sizing_sum_to_proto(row: RightSizingSum) -> metering_pb2.RightSizingRow:
    return metering_pb2.RightSizingRow(
        day=_day_to_proto(row.day),
        model=row.model,
        requests=row.requests,
        answered=row.answered,
        cost=nano_usd_to_proto(row.cost),
        saved=nano_usd_to_proto(row.saved),
    )


def _day_to_proto(day: date | None) -> Timestamp | None:
    return None if day is None else timestamp_to_proto(datetime.combine(day, time.min, UTC))


def _instant(request: metering_pb2.GetUsageRequest, field: Literal["start", "end"]) -> datetime | None:
    if not request.HasField(field):
        return None
    try:
        return proto_to_timestamp(getattr(request, field))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{field} is out of range", param=field) from error
