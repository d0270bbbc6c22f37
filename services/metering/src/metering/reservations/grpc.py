"""Reserve, ReserveHits and StartAttempt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.errors import ArgosyError, InvalidRequest
from chassis.tenancy import Principal
from values.money import MAX_TOKENS
from values.protos import (
    error_to_proto,
    nano_usd_to_proto,
    proto_to_cache_outcome,
    proto_to_duration,
    proto_to_exposure_cause,
    proto_to_usage,
)
from values.roles import SERVICE
from values.usage import AbsentClasses, CacheOutcome, ExposureCause, TokenUsage

from metering.metrics import RESERVATIONS, STARTED_ATTEMPTS
from metering.prices.model import PriceCache
from metering.prices.protos import price_to_proto
from metering.reservations.model import ReserveRequest, ReserveResult
from metering.reservations.reserve import ReservationStore, reserve
from metering.reservations.reserve_hits import HitCost, HitReservation, HitReservationStore, ReservedHits, reserve_hits
from metering.reservations.start_attempt import AttemptStore, EndedAttempt, StartedAttempt, start_attempt

HELD, REPEATED = RESERVATIONS.labels("held"), RESERVATIONS.labels("repeated")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationHandler:
    """`soft_limit_percent` is the share of the cap from which responses report that the soft limit is passed."""

    reservations: ReservationStore
    hits: HitReservationStore
    attempts: AttemptStore
    prices: PriceCache
    default_lease: timedelta
    max_lease: timedelta
    soft_limit_percent: int

    async def reserve(self, request: metering_pb2.ReserveRequest, principal: Principal) -> metering_pb2.ReserveResponse:
        try:
            result = await reserve(
                proto_to_reserve_request(request, principal, self.default_lease),
                prices=self.prices,
                reservations=self.reservations,
                max_lease=self.max_lease,
            )
        except ArgosyError as error:
            RESERVATIONS.labels(error.code).inc()
            raise
        (REPEATED if result.repeated else HELD).inc()
        return result_to_proto(result, self.soft_limit_percent)

    async def reserve_hits(self, request: metering_pb2.ReserveHitsRequest) -> metering_pb2.ReserveHitsResponse:
        costs = [
            HitCost(
                answer.tenant_id,
                answer.price_key,
                proto_to_usage(answer.usage),
                answer.discount_percent,
                # An outcome of a newer version counts as one that this version knows.
                proto_to_cache_outcome(answer.outcome) or CacheOutcome.HIT,
            )
            for answer in request.answers
        ]
        hits = [
            HitReservation(hit.request_id, hit.answer, hit.project_id, hit.key_id, hit.user_id) for hit in request.hits
        ]
        reserved = await reserve_hits(
            costs,
            hits,
            _lease(request, self.default_lease),
            prices=self.prices,
            store=self.hits,
            max_lease=self.max_lease,
        )
        HELD.inc(len(hits) - len(reserved.refused))
        for error in reserved.refused.values():
            RESERVATIONS.labels(error.code).inc()
        return reserved_hits_to_proto(costs, reserved, self.soft_limit_percent)

    async def start_attempt(
        self, request: metering_pb2.StartAttemptRequest, principal: Principal
    ) -> metering_pb2.StartAttemptResponse:
        try:
            reservation = await start_attempt(proto_to_started_attempt(request, principal), attempts=self.attempts)
        except ArgosyError as error:
            STARTED_ATTEMPTS.labels(error.code).inc()
            raise
        STARTED_ATTEMPTS.labels("started").inc()
        return metering_pb2.StartAttemptResponse(held=nano_usd_to_proto(reservation.held))


def proto_to_started_attempt(request: metering_pb2.StartAttemptRequest, principal: Principal) -> StartedAttempt:
    return StartedAttempt(
        principal.tenant_id,
        request.request_id,
        request.attempt,
        request.bound,
        [
            EndedAttempt(
                ended.attempt,
                ended.price_key,
                _usage(ended.usage),
                proto_to_exposure_cause(ended.exposure_cause) or ExposureCause.PROVIDER,
            )
            for ended in request.ended
        ],
    )


def _usage(message: common_pb2.TokenUsage) -> TokenUsage:
    usage = proto_to_usage(message)
    counts = (usage.input_tokens, usage.output_tokens)
    if any(tokens is not None and not 0 <= tokens <= MAX_TOKENS for tokens in counts):
        raise InvalidRequest("no call consumes that many tokens", param="ended.usage")
    return usage


def proto_to_reserve_request(
    request: metering_pb2.ReserveRequest, principal: Principal, default_lease: timedelta
) -> ReserveRequest:
    if request.discount_percent:
        principal.require(SERVICE)
    return ReserveRequest(
        principal.tenant_id,
        request.request_id,
        tuple((bound.price_key, bound.input_tokens, bound.output_tokens) for bound in request.bounds),
        _lease(request, default_lease),
        principal.project_id,
        principal.key_id,
        principal.user_id,
        request.discount_percent,
        tuple(
            AbsentClasses(bound.no_cache_writes, bound.no_audio_input, bound.no_audio_output)
            for bound in request.bounds
        ),
    )


def result_to_proto(result: ReserveResult, soft_limit_percent: int) -> metering_pb2.ReserveResponse:
    return metering_pb2.ReserveResponse(
        held=nano_usd_to_proto(result.reservation.held),
        prices=[price_to_proto(bound.row) for bound in result.reservation.bounds],
        soft_limit_passed=result.budget.has_passed(soft_limit_percent),
    )


def reserved_hits_to_proto(
    costs: Sequence[HitCost], reserved: ReservedHits, soft_limit_percent: int
) -> metering_pb2.ReserveHitsResponse:
    response = metering_pb2.ReserveHitsResponse()
    for place, cost in enumerate(costs):
        answer, budget = response.answers.add(), reserved.budgets.get(cost.tenant_id)
        if place in reserved.priced:
            answer.price.CopyFrom(price_to_proto(reserved.priced[place].bound.row))
        answer.soft_limit_passed = budget is not None and budget.has_passed(soft_limit_percent)
    for hit, error in reserved.refused.items():
        error_to_proto(error, response.refused.add(hit=hit).error)
    return response


def _lease(
    request: metering_pb2.ReserveRequest | metering_pb2.ReserveHitsRequest, default_lease: timedelta
) -> timedelta:
    if not request.HasField("lease"):
        return default_lease
    try:
        return proto_to_duration(request.lease)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("the lease is out of range", param="lease") from error
