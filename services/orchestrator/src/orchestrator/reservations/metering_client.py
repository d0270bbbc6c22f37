"""Metering over gRPC."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from argosy.metering.v1 import metering_pb2
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.errors import ArgosyError, Internal
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.telemetry import span
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller, current_caller
from values.money import NO_CLASS_ABSENT, NanoUsd, Price
from values.protos import (
    cache_outcome_to_proto,
    proto_to_class_prices,
    proto_to_error,
    proto_to_nano_usd,
    usage_to_proto,
)
from values.roles import SERVICE

from orchestrator.metrics import RESERVE_SECONDS
from orchestrator.reservations.model import AttemptStart, HitRequest, Reservation, ReservedHit, TokenBound
from orchestrator.usage.protos import attempt_usage_to_proto

ORCHESTRATOR: Final = Principal("orchestrator", roles=frozenset({SERVICE}))
"""Reserves what cached answers cost: no tenant, but a service that may do so for all of them."""


class GrpcMeteringClient:
    """Calls metering as the current caller."""

    def __init__(self, channel: Channel, signer: PrincipalSigner) -> None:
        self._stub = MeteringServiceStub(channel)
        self._signer = signer

    async def reserve(
        self,
        request_id: str,
        bounds: Sequence[TokenBound],
        lease: timedelta,
        timeout: timedelta,
        discount_percent: int = 0,
    ) -> Reservation:
        request = _reserve_to_proto(request_id, bounds, lease)
        with span("metering.reserve", kind="client"), RESERVE_SECONDS.time():
            if discount_percent:
                request.discount_percent = discount_percent
                with as_caller(self._as_service(current_caller())):
                    response = await self._stub.Reserve(request, timeout=timeout.total_seconds())
            else:
                response = await self._stub.Reserve(request, timeout=timeout.total_seconds())
        reservation = _proto_to_reservation(response)
        if len(reservation.prices) != len(bounds):
            raise Internal("metering answered a reservation without a price for each candidate")
        return reservation

    async def reserve_hits(
        self, hits: Sequence[HitRequest], lease: timedelta, timeout: timedelta
    ) -> Sequence[ReservedHit | ArgosyError]:
        request, answers = hits_to_proto(hits, lease)
        caller = Caller(ORCHESTRATOR, self._signer.sign(ORCHESTRATOR), new_id("req_"))
        with as_caller(caller), span("metering.reserve_hits", kind="client", hits=len(hits)), RESERVE_SECONDS.time():
            response = await self._stub.ReserveHits(request, timeout=timeout.total_seconds())
        if len(response.answers) != len(request.answers):
            raise Internal("metering answered without a price for each cached answer")
        reserved = [ReservedHit(_proto_to_price(one.price), one.soft_limit_passed) for one in response.answers]
        results: list[ReservedHit | ArgosyError] = [reserved[answer] for answer in answers]
        for refusal in response.refused:
            results[refusal.hit] = proto_to_error(refusal.error)
        return results

    def _as_service(self, caller: Caller) -> Caller:
        """Return the caller with the role that may ask for a discount, on which the orchestrator decides."""
        principal = caller.principal
        if SERVICE in principal.roles:
            return caller
        principal = replace(principal, roles=principal.roles | {SERVICE})
        return Caller(principal, self._signer.sign(principal), caller.request_id)

    async def start_attempt(self, principal: Principal, start: AttemptStart, timeout: timedelta) -> NanoUsd:
        request_id, number, bound, ended = start
        request = metering_pb2.StartAttemptRequest(request_id=request_id, attempt=number, bound=bound)
        for one in ended:
            attempt_usage_to_proto(one, request.ended.add())
        # Signed anew: the attempts before may have taken longer than the caller's token is valid.
        caller = Caller(principal, self._signer.sign(principal), request_id)
        with as_caller(caller), span("metering.start_attempt", kind="client", attempt=number):
            response = await self._stub.StartAttempt(request, timeout=timeout.total_seconds())
        return proto_to_nano_usd(response.held)


def _reserve_to_proto(request_id: str, bounds: Iterable[TokenBound], lease: timedelta) -> metering_pb2.ReserveRequest:
    request = metering_pb2.ReserveRequest(request_id=request_id)
    for bound in bounds:
        key, input_tokens, output_tokens, absent = bound
        added = request.bounds.add(price_key=key, input_tokens=input_tokens, output_tokens=output_tokens)
        if absent is not NO_CLASS_ABSENT:
            added.no_cache_writes, added.no_audio_input, added.no_audio_output = absent
    request.lease.FromTimedelta(lease)
    return request


def hits_to_proto(hits: Iterable[HitRequest], lease: timedelta) -> tuple[metering_pb2.ReserveHitsRequest, list[int]]:
    """Return the request, in which equal answers of a tenant stand once, and the place of the answer of each hit."""
    request = metering_pb2.ReserveHitsRequest()
    request.lease.FromTimedelta(lease)
    places: dict[tuple[object, ...], int] = {}
    answers = []
    for principal, request_id, price_key, usage, discount_percent, outcome in hits:
        key = (principal.tenant_id, price_key, usage, discount_percent, outcome)
        place = places.get(key)
        if place is None:
            place = places[key] = len(places)
            added = request.answers.add(
                tenant_id=principal.tenant_id,
                price_key=price_key,
                discount_percent=discount_percent,
                outcome=cache_outcome_to_proto(outcome),
            )
            usage_to_proto(usage, added.usage)
        answers.append(place)
        request.hits.add(
            request_id=request_id,
            answer=place,
            project_id=principal.project_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
        )
    return request, answers


def _proto_to_reservation(reserved: metering_pb2.ReserveResponse) -> Reservation:
    return Reservation(
        proto_to_nano_usd(reserved.held),
        tuple([_proto_to_price(price) for price in reserved.prices]),
        reserved.soft_limit_passed,
    )


def _proto_to_price(price: metering_pb2.Price) -> Price:
    return Price(
        price.price_key,
        price.version,
        NanoUsd(price.input_per_million.nano_usd),
        NanoUsd(price.output_per_million.nano_usd),
        proto_to_class_prices(price.class_prices) if price.HasField("class_prices") else None,
    )
