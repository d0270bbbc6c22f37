"""Every service is listed by reflection, called by its description alone, and rejects callers without a principal."""

from typing import Any

import grpc
import pytest
from chassis.clock import SystemClock
from chassis.tenancy import Principal, PrincipalSigner
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]

# One method without side effects of each service.
CALLS = {
    "orchestrator": ("argosy.orchestration.v1.OrchestrationService", "ListModels"),
    "inference-worker": ("argosy.inference.v1.InferenceService", "Embed"),
    "metering": ("argosy.metering.v1.MeteringService", "ListPrices"),
    "retrieval": ("argosy.retrieval.v1.RetrievalService", "ListFiles"),
}


def call_by_reflection(target: str, service: str, method: str, metadata: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Read the description over the wire and call by it with an empty request, as grpcurl does."""
    with grpc.insecure_channel(target) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        described = pool.FindServiceByName(service).FindMethodByName(method)
        request, response = (message_factory.GetMessageClass(t) for t in (described.input_type, described.output_type))
        invoke: Any = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return MessageToDict(invoke(request(), timeout=60, metadata=metadata))


@pytest.mark.parametrize("service", CALLS)
def test_a_reflection_client_lists_each_service_with_its_health(fleet: Fleet, service: str) -> None:
    with grpc.insecure_channel(fleet.grpc_target(service)) as channel:
        listed = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {CALLS[service][0], "grpc.health.v1.Health"} <= set(listed)


@pytest.mark.parametrize("service", CALLS)
def test_a_call_without_a_valid_principal_is_unauthenticated(fleet: Fleet, service: str) -> None:
    forged = PrincipalSigner("x" * 40, "gateway", SystemClock()).sign(Principal(tenant_id="ten_victim"))
    for metadata in ((), (("argosy-principal", "invalid"),), (("argosy-principal", forged),)):
        with pytest.raises(grpc.RpcError) as caught:
            call_by_reflection(fleet.grpc_target(service), *CALLS[service], metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("service", CALLS)
def test_a_call_with_a_principal_succeeds(fleet: Fleet, service: str) -> None:
    token = PrincipalSigner(fleet.principal_secret, "gateway", SystemClock()).sign(
        Principal(tenant_id="ten_reader", roles=frozenset({"member"}))
    )
    metadata = (("argosy-principal", token),)
    if service == "inference-worker":  # an empty request to embed is invalid, but not unauthenticated
        with pytest.raises(grpc.RpcError) as caught:
            call_by_reflection(fleet.grpc_target(service), *CALLS[service], metadata)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return
    call_by_reflection(fleet.grpc_target(service), *CALLS[service], metadata)
