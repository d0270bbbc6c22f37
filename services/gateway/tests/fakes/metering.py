"""Metering's gRPC service in memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceServicer
from chassis.errors import ArgosyError, Kind, RemoteError
from chassis.tenancy import current_caller
from values.protos import timestamp_to_proto

CREATED_AT = datetime(2026, 1, 2, tzinfo=UTC)
CREATED = timestamp_to_proto(CREATED_AT)


def money(nano_usd: int) -> common_pb2.Money:
    return common_pb2.Money(nano_usd=nano_usd)


def settlement(
    attempt: int, outcome: pb.SettlementOutcome.ValueType, usage: common_pb2.TokenUsage, price: str, cost: int
) -> pb.Settlement:
    return pb.Settlement(
        attempt=attempt,
        outcome=outcome,
        usage=usage,
        price_key=price,
        price_version=f"prc_{attempt}",
        cost=money(cost),
        settled_at=CREATED,
    )


def an_exposure() -> pb.Settlement:
    """A call that the client left: it counts against the cap."""
    unknown = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_UNKNOWN)
    message = settlement(1, pb.SETTLEMENT_OUTCOME_EXPOSED, unknown, "far/m", 0)
    message.exposed.nano_usd = message.counted.nano_usd = 900
    message.exposure_cause = common_pb2.EXPOSURE_CAUSE_CLIENT
    return message


def a_clamped_settlement() -> pb.Settlement:
    """A call whose provider reported more than the bound."""
    at_bound = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=3, output_tokens=100)
    message = settlement(1, pb.SETTLEMENT_OUTCOME_BILLED, at_bound, "far/m", 700)
    message.usage_clamped = True
    message.reported_usage.source = common_pb2.USAGE_SOURCE_REPORTED
    message.reported_usage.input_tokens = message.reported_usage.output_tokens = 10**9
    return message


def a_statement(request_id: str, *, settled: bool = True) -> pb.GetRequestStatementResponse:
    """The statement of a request with two attempts, of which the second was billed."""
    reservation = pb.Reservation(
        request_id=request_id,
        held=money(900),
        state=pb.RESERVATION_STATE_SETTLED if settled else pb.RESERVATION_STATE_HELD,
        created_at=CREATED,
        expires_at=timestamp_to_proto(CREATED_AT + timedelta(minutes=10)),
    )
    if not settled:
        return pb.GetRequestStatementResponse(reservation=reservation)
    counted = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_COUNTED, input_tokens=3, output_tokens=0)
    billed = settlement(2, pb.SETTLEMENT_OUTCOME_BILLED, counted, "local/m", 700)
    billed.right_sizing.CopyFrom(pb.RightSized(price_key="far/m", price_version="prc_1", saved=money(1_300)))
    return pb.GetRequestStatementResponse(
        reservation=reservation,
        settlements=[
            an_exposure(),
            billed,
        ],
        entries=[
            pb.LedgerEntry(transaction_id="txn_1", account="receivable", amount=money(700), created_at=CREATED),
            pb.LedgerEntry(transaction_id="txn_1", account="revenue", amount=money(-700), created_at=CREATED),
        ],
    )


class FakeMetering(MeteringServiceServicer):
    """Budgets and statements by tenant, and one price book."""

    def __init__(self) -> None:
        self.statements: dict[tuple[str, str], pb.GetRequestStatementResponse] = {}
        self.budgets: dict[str, pb.Budget] = {}
        self.prices: dict[str, pb.Price] = {}
        self.price_versions: list[pb.PriceVersion] = []
        self.settlements: dict[int, list[pb.RequestSettlement]] = {}
        self.pages: list[pb.ListSettlementsRequest] = []
        self.refuse_writes_with: ArgosyError | None = None
        self.intervals: list[tuple[datetime | None, datetime | None, bool]] = []

    async def Reserve(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def ReserveHits(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def StartAttempt(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def ListSettlements(self, request: pb.ListSettlementsRequest, context: Any) -> pb.ListSettlementsResponse:
        current_caller().principal.require("platform_admin")
        self.pages.append(request)
        rows = [row for row in self.settlements.get(request.filter, []) if row.tenant_id == request.tenant_id]
        return pb.ListSettlementsResponse(settlements=rows[: request.limit], has_more=len(rows) > request.limit)

    async def ReconcileExposure(
        self, request: pb.ReconcileExposureRequest, context: Any
    ) -> pb.ReconcileExposureResponse:
        current_caller().principal.require("platform_admin")
        for row in self.settlements.get(pb.SETTLEMENT_FILTER_OPEN_EXPOSURE, []):
            if (row.request_id, row.settlement.attempt) == (request.request_id, request.attempt):
                billed = request.billed if request.HasField("billed") else row.settlement.exposed
                decided = pb.Reconciliation(decision=request.decision, note=request.note, reconciled_at=CREATED)
                decided.billed.nano_usd = billed.nano_usd * (request.decision == pb.RECONCILIATION_DECISION_BILLED)
                row.settlement.reconciliation.CopyFrom(decided)
                return pb.ReconcileExposureResponse(settlement=row)
        raise RemoteError(Kind.NOT_FOUND, "EXPOSURE_NOT_FOUND", "Nothing of it is exposed.")

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        start = request.start.ToDatetime(tzinfo=UTC) if request.HasField("start") else None
        end = request.end.ToDatetime(tzinfo=UTC) if request.HasField("end") else None
        self.intervals.append((start, end, request.by_day))
        row = pb.UsageRow(price_key="local/m", calls=2, input_tokens=10, output_tokens=20, cost=money(4_500))
        row.classes.add(token_class=pb.TOKEN_CLASS_CACHED_INPUT, tokens=4, cost=money(500))
        row.classes.add(token_class=pb.TOKEN_CLASS_REASONING_OUTPUT, tokens=20, cost=money(4_000))
        row.right_sizing_saved.nano_usd = -30
        sized = pb.RightSizingRow(model="m", requests=3, answered=2, cost=money(100), saved=money(-30))
        if request.by_day:
            row.day.CopyFrom(CREATED)
            sized.day.CopyFrom(CREATED)
        return pb.GetUsageResponse(rows=[row], total=money(4_500), right_sizing=[sized], right_sizing_saved=money(-30))

    async def GetRequestStatement(
        self, request: pb.GetRequestStatementRequest, context: Any
    ) -> pb.GetRequestStatementResponse:
        statement = self.statements.get((current_caller().principal.tenant_id, request.request_id))
        if statement is None:
            raise RemoteError(Kind.NOT_FOUND, "REQUEST_NOT_FOUND", f"There is no request {request.request_id}.")
        return statement

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        return pb.GetBudgetResponse(budget=self._budget(current_caller().principal.tenant_id))

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        self._require_writable()
        budget = self._budget(request.tenant_id)
        budget.cap.CopyFrom(request.cap)
        return pb.SetBudgetResponse(budget=budget)

    async def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> pb.ListPricesResponse:
        return pb.ListPricesResponse(prices=[self.prices[key] for key in sorted(self.prices)])

    async def SetPrice(self, request: pb.SetPriceRequest, context: Any) -> pb.SetPriceResponse:
        self._require_writable()
        price = pb.Price(version=f"prc_{len(self.price_versions)}", effective_at=CREATED)
        price.MergeFrom(request.price)
        self.prices[price.price_key] = price
        author = current_caller().principal.key_id
        self.price_versions.append(pb.PriceVersion(price=price, author=author, reason=request.reason))
        return pb.SetPriceResponse(price=price)

    async def ListPriceVersions(
        self, request: pb.ListPriceVersionsRequest, context: Any
    ) -> pb.ListPriceVersionsResponse:
        of_key = [one for one in reversed(self.price_versions) if one.price.price_key == request.price_key]
        ids = [one.price.version for one in of_key]
        older = of_key[ids.index(request.before_version) + 1 :] if request.before_version in ids else of_key
        found = [] if request.before_version and request.before_version not in ids else older
        return pb.ListPriceVersionsResponse(versions=found[: request.limit], has_more=len(found) > request.limit)

    def _require_writable(self) -> None:
        current_caller().principal.require("platform_admin")
        if self.refuse_writes_with is not None:
            raise self.refuse_writes_with

    def _budget(self, tenant_id: str) -> pb.Budget:
        new = pb.Budget(cap=money(100_000_000_000), spent=money(25), held=money(0))
        return self.budgets.setdefault(tenant_id, new)
