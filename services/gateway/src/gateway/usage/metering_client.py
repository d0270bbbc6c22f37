"""Usage and cost statements from metering, over gRPC."""

from datetime import datetime
from typing import Literal

from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.grpc import Channel
from values.money import NanoUsd, nano_usd_to_usd
from values.protos import proto_to_nano_usd, proto_to_timestamp, proto_to_usage, timestamp_to_proto

from gateway.usage.schemas import (
    CacheUsageRead,
    ClassCostRead,
    ExposureCause,
    LedgerEntryRead,
    ReconciliationRead,
    RequestStatement,
    ReservationRead,
    ReservationState,
    RightSizedRead,
    RightSizingUsageRead,
    SettledUsage,
    SettlementOutcome,
    SettlementRead,
    TokenClass,
    UsageRead,
    UsageRowRead,
)
from gateway.web.schemas import unix_seconds

# A state or outcome of a newer version is shown as the one that promises the client least.
_PROTO_TO_STATE: dict[int, ReservationState] = {
    pb.RESERVATION_STATE_HELD: "held",
    pb.RESERVATION_STATE_SETTLED: "settled",
    pb.RESERVATION_STATE_EXPIRED: "expired",
}
_PROTO_TO_OUTCOME: dict[int, SettlementOutcome] = {
    pb.SETTLEMENT_OUTCOME_BILLED: "billed",
    pb.SETTLEMENT_OUTCOME_RELEASED: "released",
    pb.SETTLEMENT_OUTCOME_EXPOSED: "exposed",
}

_PROTO_TO_CAUSE: dict[int, ExposureCause] = {
    common_pb2.EXPOSURE_CAUSE_PROVIDER: "provider",
    common_pb2.EXPOSURE_CAUSE_CLIENT: "client",
    common_pb2.EXPOSURE_CAUSE_FLEET: "fleet",
}
_PROTO_TO_CACHE: dict[int, Literal["hit", "semantic", "stale"]] = {
    common_pb2.CACHE_OUTCOME_HIT: "hit",
    common_pb2.CACHE_OUTCOME_SEMANTIC: "semantic",
    common_pb2.CACHE_OUTCOME_STALE: "stale",
}


_PROTO_TO_CLASS: dict[int, TokenClass] = {
    pb.TOKEN_CLASS_TEXT_INPUT: "text_input",
    pb.TOKEN_CLASS_CACHED_INPUT: "cached_input",
    pb.TOKEN_CLASS_CACHE_WRITE: "cache_write",
    pb.TOKEN_CLASS_CACHE_WRITE_1H: "cache_write_1h",
    pb.TOKEN_CLASS_AUDIO_INPUT: "audio_input",
    pb.TOKEN_CLASS_IMAGE_INPUT: "image_input",
    pb.TOKEN_CLASS_TEXT_OUTPUT: "text_output",
    pb.TOKEN_CLASS_REASONING_OUTPUT: "reasoning_output",
    pb.TOKEN_CLASS_AUDIO_OUTPUT: "audio_output",
}


class UsageClient:
    """Acts on behalf of the current caller. All calls raise metering's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = MeteringServiceStub(channel)

    async def get(self, start: datetime | None, end: datetime | None, *, by_day: bool) -> UsageRead:
        """Usage of the caller's tenant from `start` (inclusive) to `end` (exclusive)."""
        request = pb.GetUsageRequest(by_day=by_day)
        if start is not None:
            request.start.CopyFrom(timestamp_to_proto(start))
        if end is not None:
            request.end.CopyFrom(timestamp_to_proto(end))
        response = await self._stub.GetUsage(request)
        total = proto_to_nano_usd(response.total)
        return UsageRead(
            data=[proto_to_usage_row(row) for row in response.rows],
            total_usd=nano_usd_to_usd(total),
            right_sizing_saved_usd=nano_usd_to_usd(proto_to_nano_usd(response.right_sizing_saved)),
            cache=[proto_to_cache_row(row) for row in response.cache],
            right_sizing=[proto_to_right_sizing_row(row) for row in response.right_sizing],
        )

    async def get_request_statement(self, request_id: str) -> RequestStatement:
        """Raises REQUEST_NOT_FOUND."""
        response = await self._stub.GetRequestStatement(pb.GetRequestStatementRequest(request_id=request_id))
        settlements = [proto_to_settlement(settlement) for settlement in response.settlements]
        cost = NanoUsd(sum(map(total_cost, settlements))) if settlements else None
        return RequestStatement(
            id=request_id,
            cost_usd=None if cost is None else nano_usd_to_usd(cost),
            cost_nano_usd=cost,
            reservation=proto_to_reservation(response.reservation),
            settlements=settlements,
            ledger_entries=[proto_to_ledger_entry(entry) for entry in response.entries],
        )


def proto_to_usage_row(message: pb.UsageRow) -> UsageRowRead:
    return UsageRowRead(
        day=unix_seconds(proto_to_timestamp(message.day)) if message.HasField("day") else None,
        price_key=message.price_key,
        calls=message.calls,
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        cost_usd=nano_usd_to_usd(proto_to_nano_usd(message.cost)),
        cache_hits=message.cache_hits,
        saved_usd=nano_usd_to_usd(proto_to_nano_usd(message.saved)),
        right_sizing_saved_usd=nano_usd_to_usd(proto_to_nano_usd(message.right_sizing_saved)),
        classes=[proto_to_class_cost(one) for one in message.classes],
    )


def proto_to_class_cost(message: pb.ClassCost) -> ClassCostRead:
    cost = proto_to_nano_usd(message.cost)
    # A class of a newer version.
    token_class = _PROTO_TO_CLASS.get(message.token_class, "other")
    return ClassCostRead(
        token_class=token_class, tokens=message.tokens, cost_usd=nano_usd_to_usd(cost), cost_nano_usd=cost
    )


def proto_to_cache_row(message: pb.CacheRow) -> CacheUsageRead:
    answered = message.hits + message.semantic_hits + message.stale_hits
    return CacheUsageRead(
        day=unix_seconds(proto_to_timestamp(message.day)) if message.HasField("day") else None,
        model=message.model,
        lookups=message.lookups,
        hits=message.hits,
        semantic_hits=message.semantic_hits,
        stale_hits=message.stale_hits,
        hit_ratio=round(answered / message.lookups, 4) if message.lookups else 0.0,
        cost_usd=nano_usd_to_usd(proto_to_nano_usd(message.cost)),
        saved_usd=nano_usd_to_usd(proto_to_nano_usd(message.saved)),
    )


def proto_to_right_sizing_row(message: pb.RightSizingRow) -> RightSizingUsageRead:
    return RightSizingUsageRead(
        day=unix_seconds(proto_to_timestamp(message.day)) if message.HasField("day") else None,
        model=message.model,
        requests=message.requests,
        answered=message.answered,
        cost_usd=nano_usd_to_usd(proto_to_nano_usd(message.cost)),
        saved_usd=nano_usd_to_usd(proto_to_nano_usd(message.saved)),
    )


def proto_to_right_sized(message: pb.RightSized) -> RightSizedRead:
    saved = proto_to_nano_usd(message.saved)
    return RightSizedRead(
        price_key=message.price_key,
        price_version=message.price_version,
        saved_usd=nano_usd_to_usd(saved),
        saved_nano_usd=saved,
    )


def proto_to_reservation(message: pb.Reservation) -> ReservationRead:
    return ReservationRead(
        held_usd=nano_usd_to_usd(proto_to_nano_usd(message.held)),
        state=_PROTO_TO_STATE.get(message.state, "held"),
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        expires_at=unix_seconds(proto_to_timestamp(message.expires_at)),
    )


def total_cost(settlement: SettlementRead) -> int:
    """What the tenant pays for a call, with what was billed when its exposure was reconciled."""
    return settlement.cost_nano_usd + (settlement.reconciliation.billed_nano_usd if settlement.reconciliation else 0)


def proto_to_settlement(message: pb.Settlement) -> SettlementRead:
    cost, exposed = proto_to_nano_usd(message.cost), proto_to_nano_usd(message.exposed)
    return SettlementRead(
        attempt=message.attempt,
        outcome=_PROTO_TO_OUTCOME.get(message.outcome, "exposed"),
        usage=proto_to_settled_usage(message.usage),
        price_key=message.price_key,
        price_version=message.price_version,
        cost_usd=nano_usd_to_usd(cost),
        cost_nano_usd=cost,
        exposed_usd=nano_usd_to_usd(exposed),
        exposed_nano_usd=exposed,
        exposure_cause=_PROTO_TO_CAUSE.get(message.exposure_cause),
        counted_usd=nano_usd_to_usd(proto_to_nano_usd(message.counted)),
        usage_clamped=message.usage_clamped,
        reported_usage=proto_to_settled_usage(message.reported_usage) if message.HasField("reported_usage") else None,
        reconciliation=proto_to_reconciliation(message.reconciliation) if message.HasField("reconciliation") else None,
        settled_at=unix_seconds(proto_to_timestamp(message.settled_at)),
        cache=_PROTO_TO_CACHE.get(message.cache),
        saved_usd=nano_usd_to_usd(proto_to_nano_usd(message.saved)),
        right_sizing=proto_to_right_sized(message.right_sizing) if message.HasField("right_sizing") else None,
        classes=[proto_to_class_cost(one) for one in message.classes],
    )


def proto_to_settled_usage(message: common_pb2.TokenUsage) -> SettledUsage:
    usage = proto_to_usage(message)
    return SettledUsage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, source=usage.source.value)


def proto_to_reconciliation(message: pb.Reconciliation) -> ReconciliationRead:
    billed = proto_to_nano_usd(message.billed)
    return ReconciliationRead(
        decision="billed" if message.decision == pb.RECONCILIATION_DECISION_BILLED else "written_off",
        billed_usd=nano_usd_to_usd(billed),
        billed_nano_usd=billed,
        note=message.note,
        reconciled_at=unix_seconds(proto_to_timestamp(message.reconciled_at)),
    )


def proto_to_ledger_entry(message: pb.LedgerEntry) -> LedgerEntryRead:
    amount = proto_to_nano_usd(message.amount)
    return LedgerEntryRead(
        transaction_id=message.transaction_id,
        account=message.account,
        amount_usd=nano_usd_to_usd(amount),
        amount_nano_usd=amount,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
    )
