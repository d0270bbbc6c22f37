"""Settlements and budgets' changes as rows of JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from values.money import ZERO, ClassCost, NanoUsd
from values.usage import DETAIL_CLASSES, CacheOutcome, ExposureCause, TokenDetails, TokenUsage, UsageSource

from metering.reservations.model import Reservation
from metering.settlement.model import (
    NO_EVENT,
    REQUEST_ATTEMPT,
    Decision,
    Outcome,
    Reconciliation,
    RightSized,
    SettledAttempt,
    Settlement,
    SettlementCase,
    SettlementChanges,
)
from metering.usage.classes import all_classes, input_cost, kept_classes

_USAGE_COUNTS = (
    "calls",
    "input_tokens",
    "output_tokens",
    "cost",
    "cache_hits",
    "saved",
    "right_sizing_saved",
    "classed_input_tokens",
    "classed_output_tokens",
    "input_cost",
    "output_cost",
)
_CACHE_COUNTS = ("lookups", "hits", "semantic_hits", "stale_hits", "cost", "saved")
_RIGHT_SIZING_COUNTS = ("requests", "answered", "cost", "saved")
_HIT_COLUMNS = {CacheOutcome.HIT: "hits", CacheOutcome.SEMANTIC: "semantic_hits", CacheOutcome.STALE: "stale_hits"}
_FIRST_CASES = frozenset({SettlementCase.SETTLED, SettlementCase.LATE, SettlementCase.UNRESERVED})


def changes_to_adjustments(changes: Sequence[SettlementChanges]) -> tuple[list[str], list[int], list[int], list[int]]:
    """Sum what to add to `spent`, `held` and `exposed` of each tenant's budget."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for change in changes:
        amounts = sums[change.reservation.tenant_id]
        amounts[0] += change.spent
        amounts[1] += change.held
        amounts[2] += change.exposed
    tenants = sorted(sums)
    spent, held, exposed = ([sums[tenant_id][place] for tenant_id in tenants] for place in range(3))
    return tenants, spent, held, exposed


def changes_to_usage_rows(changes: Sequence[SettlementChanges]) -> list[dict[str, Any]]:
    """Sum the calls of which a message told, by tenant, day and price key; estimates are no usage."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for change in changes:
        for settlement in change.settlements:
            if settlement.attempt == REQUEST_ATTEMPT or settlement.event_id == NO_EVENT:
                continue
            key = (change.reservation.tenant_id, settlement.settled_at.date().isoformat(), settlement.price_key)
            row = rows.setdefault(key, dict.fromkeys(_USAGE_COUNTS, 0))
            row["cost"] += settlement.cost
            _add_classes(row, settlement)
            if settlement.cache is not None:
                row["cache_hits"] += 1
                row["saved"] += settlement.saved
                continue
            row["calls"] += 1
            if settlement.right_sizing is not None:
                row["right_sizing_saved"] += settlement.right_sizing.saved
            row["input_tokens"] += settlement.usage.input_tokens or 0
            row["output_tokens"] += settlement.usage.output_tokens or 0
    return [
        {"tenant_id": tenant_id, "day": day, "price_key": price_key, **row}
        for (tenant_id, day, price_key), row in sorted(rows.items(), key=lambda item: item[0])
    ]


def _add_classes(row: dict[str, Any], settlement: Settlement) -> None:
    """Add costs by class, and tokens by class of provider calls."""
    classes = settlement.classes
    if not classes:
        return
    read = input_cost(classes)
    row["input_cost"] += read
    row["output_cost"] += settlement.cost - read
    if settlement.cache is None:
        row["classed_input_tokens"] += settlement.usage.input_tokens
        row["classed_output_tokens"] += settlement.usage.output_tokens
    if settlement.usage.details is None:
        return
    sums = row.setdefault("classes", {})
    for name, (tokens, cost) in kept_classes(classes).items():
        before = sums.get(name, (0, 0))
        sums[name] = (before[0] + (tokens if settlement.cache is None else 0), before[1] + cost)


def changes_to_cache_rows(changes: Sequence[SettlementChanges]) -> list[dict[str, Any]]:
    """Sum what the response cache did, by tenant, day and model. A request counts when it is settled first."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for change in changes:
        use = change.cache
        if use is None or change.case not in _FIRST_CASES or not change.settlements:
            continue
        day = change.settlements[0].settled_at.date().isoformat()
        row = rows.setdefault((change.reservation.tenant_id, day, use.model), dict.fromkeys(_CACHE_COUNTS, 0))
        row["lookups"] += 1
        if use.outcome is not CacheOutcome.MISS:
            row[_HIT_COLUMNS[use.outcome]] += 1
        for settlement in change.settlements:
            if settlement.cache is not None:
                row["cost"] += settlement.cost
                row["saved"] += settlement.saved
    return [
        {"tenant_id": tenant_id, "day": day, "model": model, **row}
        for (tenant_id, day, model), row in sorted(rows.items(), key=lambda item: item[0])
    ]


def changes_to_right_sizing_rows(changes: Sequence[SettlementChanges]) -> list[dict[str, Any]]:
    """Sum what right-sizing did, by tenant, day and model. A request counts when it is settled first."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for change in changes:
        use = change.right_sizing
        sized = [(one.cost, one.right_sizing.saved) for one in change.settlements if one.right_sizing is not None]
        if use is None or not sized:
            continue
        day = change.settlements[0].settled_at.date().isoformat()
        row = rows.setdefault((change.reservation.tenant_id, day, use.model), dict.fromkeys(_RIGHT_SIZING_COUNTS, 0))
        if change.case in _FIRST_CASES:
            row["requests"] += 1
            row["answered"] += use.answer > 0
        for cost, saved in sized:
            row["cost"] += cost
            row["saved"] += saved
    return [
        {"tenant_id": tenant_id, "day": day, "model": model, **row}
        for (tenant_id, day, model), row in sorted(rows.items(), key=lambda item: item[0])
    ]


def closure_to_row(reservation: Reservation) -> dict[str, Any]:
    return {"tenant_id": reservation.tenant_id, "request_id": reservation.request_id, "state": reservation.state}


def unreserved_to_row(change: SettlementChanges) -> dict[str, Any]:
    return closure_to_row(change.reservation) | {
        "project_id": change.project_id,
        "key_id": change.key_id,
        "created_at": change.reservation.created_at,
    }


def settlement_to_row(reservation: Reservation, settlement: Settlement) -> dict[str, Any]:
    """What most settlements do not have is left out; the statement knows its default."""
    row: dict[str, Any] = {
        "tenant_id": reservation.tenant_id,
        "request_id": reservation.request_id,
        "attempt": settlement.attempt,
        "outcome": settlement.outcome,
        "usage_source": settlement.usage.source,
        "input_tokens": settlement.usage.input_tokens,
        "output_tokens": settlement.usage.output_tokens,
        "price_key": settlement.price_key,
        "price_version": settlement.price_version,
        "cost": settlement.cost,
        "exposed": settlement.exposed,
        "event_id": settlement.event_id,
        "settled_at": settlement.settled_at,
    }
    if settlement.classes:
        row["input_cost"] = input_cost(settlement.classes)
        if settlement.usage.details is not None:
            row["classes"] = kept_classes(settlement.classes)
    if settlement.cause is not None:
        row |= {"exposure_cause": settlement.cause, "counted": settlement.counted}
    if settlement.cache is not None:
        row |= {"cache": settlement.cache, "saved": settlement.saved}
    if settlement.right_sizing is not None:
        key, version, saved = settlement.right_sizing
        row |= {"alternative_key": key, "alternative_version": version, "right_sizing_saved": saved}
    if settlement.reported is not None:
        row["usage_clamped"] = True
        row["reported_input_tokens"] = settlement.reported.input_tokens
        row["reported_output_tokens"] = settlement.reported.output_tokens
    return row


def json_to_settled(text: str | None) -> tuple[SettledAttempt, ...]:
    """Read the rows of metering.lock_requests."""
    return tuple(
        SettledAttempt(
            item["attempt"],
            NanoUsd(item["cost"] + item["reconciled_cost"]),
            NanoUsd(item["exposed"]),
            NanoUsd(item["counted"]) if item["open"] else ZERO,
            is_estimate=item["estimate"],
        )
        for item in (() if text is None else orjson.loads(text))
    )


def json_to_settlement(item: Mapping[str, Any]) -> Settlement:
    """Read a row of settlements, as JSON writes it."""
    source = UsageSource(item["usage_source"])
    reported = TokenUsage(source, item["reported_input_tokens"], item["reported_output_tokens"])
    kept = item["classes"] or {}
    details = TokenDetails(*(kept.get(name, (0,))[0] for name in DETAIL_CLASSES)) if kept else None
    usage = TokenUsage(source, item["input_tokens"], item["output_tokens"], details)
    return Settlement(
        item["attempt"],
        Outcome(item["outcome"]),
        usage,
        item["price_key"],
        item["price_version"],
        NanoUsd(item["cost"]),
        NanoUsd(item["exposed"]),
        item["event_id"],
        datetime.fromisoformat(item["settled_at"]),
        ExposureCause(item["exposure_cause"]) if item["exposure_cause"] else None,
        NanoUsd(item["counted"]),
        reported if item["usage_clamped"] else None,
        None if item["reconciliation"] is None else _json_to_reconciliation(item),
        CacheOutcome(item["cache"]) if item["cache"] else None,
        NanoUsd(item["saved"]),
        _json_to_classes(item, usage),
        _json_to_right_sized(item),
    )


def _json_to_right_sized(item: Mapping[str, Any]) -> RightSized | None:
    if item["right_sizing_saved"] is None:
        return None
    return RightSized(item["alternative_key"], item["alternative_version"], NanoUsd(item["right_sizing_saved"]))


def _json_to_classes(item: Mapping[str, Any], usage: TokenUsage) -> tuple[ClassCost, ...]:
    if item["input_cost"] is None or usage.known is None:
        return ()
    read, written = usage.known
    read_cost, all_costs = item["input_cost"], item["cost"]
    return all_classes((read, read_cost), (written, all_costs - read_cost), item["classes"] or {})


def json_to_settlements(text: str) -> tuple[Settlement, ...]:
    return tuple(json_to_settlement(item) for item in orjson.loads(text))


def _json_to_reconciliation(item: Mapping[str, Any]) -> Reconciliation:
    return Reconciliation(
        Decision(item["reconciliation"]),
        NanoUsd(item["reconciled_cost"]),
        item["reconciled_by"],
        item["reconciled_note"],
        datetime.fromisoformat(item["reconciled_at"]),
    )
