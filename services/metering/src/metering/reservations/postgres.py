"""Reservations in Postgres, by group commit: requests that wait while a transaction commits share the next one."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any

import orjson
from chassis.errors import ArgosyError
from chassis.postgres import Database, GroupCommit
from values.money import NO_CLASS_ABSENT, ClassPrices, NanoUsd, Price
from values.usage import AbsentClasses, CacheOutcome, ExposureCause, TokenDetails, TokenUsage, UsageSource

from metering.budgets.model import DEFAULT_SOFT_LIMIT_PERCENT, Budget
from metering.budgets.postgres import row_to_budget
from metering.metrics import RESERVE_BATCH, RESERVE_SECONDS
from metering.prices.model import PriceRow
from metering.reservations.model import (
    AnnouncedAttempt,
    Bound,
    PricedReservation,
    RequestRef,
    Reservation,
    ReservationState,
    ReserveResult,
)
from metering.reservations.reserve import to_result
from metering.reservations.reserve_hits import HitReservation, PricedHit
from metering.reservations.start_attempt import StartedAttempt, announce

RESERVE = "SELECT * FROM metering.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
LOCK = "SELECT * FROM metering.lock_requests($1, $2, $3, true)"
# Only those that hold nothing now are read, and the last of each tenant, for the budget.
RESERVE_HITS = """
SELECT * FROM metering.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) WITH ORDINALITY AS r
WHERE r.outcome <> 'held' OR r.ordinality = ANY ($12::bigint[])
"""
START_ATTEMPT = "SELECT metering.start_attempt($1, $2, $3, $4, $5)"
OVERDUE = """
SELECT tenant_id, request_id FROM metering.reservations
WHERE state = 'held' AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1
"""
EXTEND = "SELECT metering.extend_leases($1, $2, $3)"
NO_ATTEMPTS = "[]"
# A transaction costs as much as several of its items, so under load batches begin this far apart. A lone request does
# not wait.
BATCH_INTERVAL = timedelta(milliseconds=2)
PRICE_FIELDS = ("price_key", "version", "input_per_million", "output_per_million", "effective_at", "tenant_id")


class PostgresReservationStore:
    def __init__(
        self,
        database: Database,
        default_cap: NanoUsd,
        max_batch: int,
        soft_limit_percent: int = DEFAULT_SOFT_LIMIT_PERCENT,
    ) -> None:
        self._database = database
        self._soft_limit_percent = soft_limit_percent
        self._default_cap = default_cap
        self._group: GroupCommit[PricedReservation, ReserveResult] = GroupCommit(
            self._commit, max_batch=max_batch, interval=BATCH_INTERVAL
        )

    async def reserve(self, priced: PricedReservation) -> ReserveResult:
        return await self._group.submit(priced)

    async def reserve_hits(
        self, answers: Mapping[int, PricedHit], hits: Mapping[int, HitReservation], lease: timedelta
    ) -> tuple[Mapping[str, Budget], Mapping[int, ArgosyError]]:
        started = perf_counter()
        amounts = {place: answer.bound.cost for place, answer in answers.items()}
        bounds = {place: bounds_to_json((answer.bound,)) for place, answer in answers.items()}
        attempts = {place: attempts_to_json((answer.attempt,)) for place, answer in answers.items()}
        tenants = [answers[hit.answer].tenant_id for hit in hits.values()]
        rows = await self._database.system().fetch(
            RESERVE_HITS,
            tenants,
            [hit.request_id for hit in hits.values()],
            [amounts[hit.answer] for hit in hits.values()],
            [lease] * len(hits),
            [bounds[hit.answer] for hit in hits.values()],
            [hit.project_id for hit in hits.values()],
            [hit.key_id for hit in hits.values()],
            [hit.user_id for hit in hits.values()],
            self._default_cap,
            self._soft_limit_percent,
            [attempts[hit.answer] for hit in hits.values()],
            list({tenant_id: place for place, tenant_id in enumerate(tenants, start=1)}.values()),
        )
        RESERVE_BATCH.observe(len(hits))
        RESERVE_SECONDS.observe(perf_counter() - started)
        budgets: dict[str, Budget] = {}
        refused: dict[int, ArgosyError] = {}
        places = list(hits)
        for row in rows:
            place = places[row["ordinality"] - 1]
            hit = hits[place]
            answer = answers[hit.answer]
            budgets[answer.tenant_id] = row_to_budget(row)
            if row["outcome"] != "held":
                result = _row_to_result(answer.reservation_of(hit, lease), row)
                if isinstance(result, ArgosyError):
                    refused[place] = result
        return budgets, refused

    async def start_attempt(self, started: StartedAttempt) -> Reservation:
        tenant_id, request_id = started.tenant_id, started.request_id
        async with self._database.tenant(tenant_id) as connection:
            (row,) = await connection.fetch(LOCK, [tenant_id], [request_id], self._default_cap)
            before = None if row["state"] is None else row_to_reservation(row, tenant_id, request_id)
            after = announce(started, before, row_to_budget(row))
            if before is not None and after != before:
                attempts, raised = attempts_to_json(after.attempts), after.held - before.held
                await connection.execute(START_ATTEMPT, tenant_id, request_id, attempts, after.held, raised)
        return after

    async def overdue(self, limit: int) -> Sequence[RequestRef]:
        rows = await self._database.system().fetch(OVERDUE, limit)
        return [RequestRef(row["tenant_id"], row["request_id"]) for row in rows]

    async def extend(self, requests: Sequence[RequestRef], extension: timedelta) -> None:
        async with self._database.system() as connection:
            await connection.execute(EXTEND, *zip(*requests, strict=True), extension)

    async def _commit(self, batch: list[PricedReservation]) -> list[ReserveResult | ArgosyError]:
        started = perf_counter()
        requests = [priced.request for priced in batch]
        rows = await self._database.system().fetch(
            RESERVE,
            [request.tenant_id for request in requests],
            [request.request_id for request in requests],
            [priced.amount for priced in batch],
            [request.lease for request in requests],
            [bounds_to_json(priced.bounds) for priced in batch],
            [request.project_id for request in requests],
            [request.key_id for request in requests],
            [request.user_id for request in requests],
            self._default_cap,
            self._soft_limit_percent,
        )
        RESERVE_BATCH.observe(len(batch))
        RESERVE_SECONDS.observe(perf_counter() - started)
        return [_row_to_result(priced, row) for priced, row in zip(batch, rows, strict=True)]


def _row_to_result(priced: PricedReservation, row: Mapping[str, Any]) -> ReserveResult | ArgosyError:
    outcome, budget, request = row["outcome"], row_to_budget(row), priced.request
    if outcome == "held":
        # The bounds are those of the request: parsing them would be work for nothing.
        reservation = Reservation(
            request.tenant_id,
            request.request_id,
            ReservationState.HELD,
            row["held"],
            priced.bounds,
            row["created_at"],
            row["expires_at"],
        )
        return ReserveResult(reservation, budget, repeated=False)
    existing = None if outcome == "refused" else row_to_reservation(row, request.tenant_id, request.request_id)
    return to_result(priced, existing, budget, repeated=outcome == "repeated")


def row_to_reservation(row: Mapping[str, Any], tenant_id: str, request_id: str) -> Reservation:
    return Reservation(
        tenant_id,
        request_id,
        ReservationState(row["state"]),
        NanoUsd(row["held"]),
        json_to_bounds(row["bounds"]),
        row["created_at"],
        row["expires_at"],
        json_to_attempts(row["attempts"]),
    )


def attempts_to_json(attempts: Sequence[AnnouncedAttempt]) -> str:
    items = [
        {
            "attempt": attempt.number,
            "bound": attempt.bound,
            "usage": None if attempt.usage is None else list(attempt.usage[:3]),
            "cause": attempt.cause,
        }
        # Beside the usage, so that the version before reads that.
        | ({} if attempt.usage is None or attempt.usage.details is None else {"details": attempt.usage.details})
        | ({} if attempt.cache is None else {"cache": attempt.cache})
        for attempt in attempts
    ]
    return orjson.dumps(items, default=tuple).decode()


def json_to_attempts(text: str) -> tuple[AnnouncedAttempt, ...]:
    return tuple(
        AnnouncedAttempt(
            item["attempt"],
            item["bound"],
            None if item["usage"] is None else _list_to_usage(item["usage"], item.get("details")),
            ExposureCause(item["cause"]),
            CacheOutcome(item["cache"]) if "cache" in item else None,
        )
        # Most requests announce nothing.
        for item in (() if text == NO_ATTEMPTS else orjson.loads(text))
    )


def _list_to_usage(usage: Sequence[Any], details: Sequence[int] | None) -> TokenUsage:
    source, input_tokens, output_tokens = usage
    return TokenUsage(
        UsageSource(source), input_tokens, output_tokens, None if details is None else TokenDetails(*details)
    )


def bounds_to_json(bounds: Sequence[Bound]) -> str:
    """Write bounds with all of their price, so that a reservation is billed without reading the price book."""
    items = (
        f'{{"input_tokens":{bound.input_tokens},"output_tokens":{bound.output_tokens},'
        f"{_price_to_json(bound.row)}{_absent_to_json(bound)}}}"
        for bound in bounds
    )
    return f"[{','.join(items)}]"


def json_to_bounds(text: str) -> tuple[Bound, ...]:
    return tuple(
        Bound(
            _json_to_price(tuple(item.get("classes", ())), *map(item.__getitem__, PRICE_FIELDS)),
            item["input_tokens"],
            item["output_tokens"],
            AbsentClasses(*item["absent"]) if "absent" in item else NO_CLASS_ABSENT,
        )
        for item in orjson.loads(text)
    )


def _absent_to_json(bound: Bound) -> str:
    # Without prices of classes it makes no difference.
    return "" if bound.row.price.classes is None else f',"absent":{orjson.dumps(tuple(bound.absent)).decode()}'


# Cached, because many reservations have the same few prices.
@lru_cache(maxsize=1024)
def _price_to_json(row: PriceRow) -> str:
    fields: dict[str, Any] = dict(zip(PRICE_FIELDS, (*row.price[:4], row.effective_at, row.tenant_id), strict=True))
    if row.price.classes is not None:
        fields["classes"] = tuple(row.price.classes)
    return orjson.dumps(fields).decode()[1:-1]


@lru_cache(maxsize=1024)
def _json_to_price(classes: tuple[NanoUsd | None, ...], *fields: Any) -> PriceRow:
    key, version, input_per_million, output_per_million, effective_at, tenant_id = fields
    class_prices = ClassPrices(*classes) if classes else None
    price = Price(key, version, input_per_million, output_per_million, class_prices)
    return PriceRow(price, datetime.fromisoformat(effective_at), tenant_id)
