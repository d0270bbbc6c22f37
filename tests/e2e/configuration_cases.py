"""A request that succeeds for each method of upstreams and of the log of changes; importing this registers them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2
from argosy.metering.v1 import metering_pb2
from argosy.orchestration.v1 import cache_pb2, configuration_pb2, routes_pb2
from argosy.orchestration.v1 import upstreams_pb2 as pb
from google.protobuf.message import Message

from tests.e2e.call_context import CallContext
from tests.e2e.flag_cases import KEY, add_flag, as_admin
from tests.e2e.method_cases import CASES

PACKAGE = "/argosy.orchestration.v1"
NAME, REASON, SECRET = "transports", "both ways", "sk-of-both-ways"
DOCUMENT = json.dumps({"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}).encode()
LOCAL, TENANT = "local", "ten_transports"
UNUSED_UPSTREAM = "journaled"
"""Of the settings. No other test beside these calls it, so that its circuits do not change between two calls."""
ROUTE = json.dumps({"candidates": [{"upstream": LOCAL, "model": "both-ways"}]}).encode()
DIFFERENT = json.dumps({"kind": "openai", "base_url": "http://127.0.0.1:10/v1"}).encode()


async def add_upstream(context: CallContext) -> None:
    as_admin(context)
    await context.call("PutUpstream", pb.PutUpstreamRequest(name=NAME, document=DOCUMENT, reason=REASON))


async def add_a_credential(context: CallContext) -> str:
    await add_upstream(context)
    request = pb.AddCredentialRequest(upstream=NAME, tenant_id="*", secret=SECRET, reason=REASON)
    return str((await context.call("AddCredential", request)).credential.credential_id)


async def list_upstreams(context: CallContext) -> Sequence[Message]:
    await add_upstream(context)
    return [pb.ListUpstreamsRequest()]


async def get_upstream(context: CallContext) -> Sequence[Message]:
    await add_upstream(context)
    return [pb.GetUpstreamRequest(name=NAME)]


async def put_upstream(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [pb.PutUpstreamRequest(name=NAME, document=DOCUMENT, reason=REASON)]


async def delete_upstream(context: CallContext) -> Sequence[Message]:
    await add_upstream(context)
    return [pb.DeleteUpstreamRequest(name=NAME, reason=REASON)]


async def list_credentials(context: CallContext) -> Sequence[Message]:
    await add_upstream(context)
    return [pb.ListCredentialsRequest(upstream=NAME)]


async def add_credential(context: CallContext) -> Sequence[Message]:
    await add_upstream(context)
    return [pb.AddCredentialRequest(upstream=NAME, tenant_id="*", secret=SECRET, reason=REASON)]


async def change_credential(context: CallContext) -> Sequence[Message]:
    credential_id = await add_a_credential(context)
    key = {"upstream": NAME, "tenant_id": "*", "credential_id": credential_id}
    return [pb.ChangeCredentialRequest(**key, enabled=False, reason=REASON)]  # type: ignore[arg-type]


async def delete_credential(context: CallContext) -> Sequence[Message]:
    credential_id = await add_a_credential(context)
    return [pb.DeleteCredentialRequest(upstream=NAME, tenant_id="*", credential_id=credential_id, reason=REASON)]


async def shred_credentials(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [pb.ShredCredentialsRequest(tenant_id="ten_transports", reason=REASON)]


async def watch_upstreams(context: CallContext) -> Sequence[Message]:
    context.principal = replace(context.principal, roles=frozenset({"service"}))
    return [pb.WatchUpstreamsRequest()]


async def put_a_route(context: CallContext, document: bytes = ROUTE) -> None:
    as_admin(context)
    await context.call("SetPrice", a_price(f"{LOCAL}/both-ways"))
    request = routes_pb2.PutRouteRequest(tenant_id=TENANT, model=NAME, document=document, reason=REASON)
    await context.call("PutRoute", request)


def a_price(price_key: str) -> metering_pb2.SetPriceRequest:
    free = common_pb2.Money()
    price = metering_pb2.Price(price_key=price_key, input_per_million=free, output_per_million=free)
    return metering_pb2.SetPriceRequest(price=price)


async def list_price_versions(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    await context.call("SetPrice", a_price(f"{LOCAL}/both-ways"))
    return [metering_pb2.ListPriceVersionsRequest(price_key=f"{LOCAL}/both-ways", limit=1)]


async def list_routes(context: CallContext) -> Sequence[Message]:
    await put_a_route(context)
    return [routes_pb2.ListRoutesRequest(tenant_id=TENANT)]


async def get_route(context: CallContext) -> Sequence[Message]:
    await put_a_route(context)
    return [routes_pb2.GetRouteRequest(tenant_id=TENANT, model=NAME)]


async def put_route(context: CallContext) -> Sequence[Message]:
    await put_a_route(context)
    return [routes_pb2.PutRouteRequest(tenant_id=TENANT, model=NAME, document=ROUTE, reason=REASON)]


async def delete_route(context: CallContext) -> Sequence[Message]:
    await put_a_route(context)
    return [routes_pb2.DeleteRouteRequest(tenant_id=TENANT, model=NAME, reason=REASON)]


async def resolve_route(context: CallContext) -> Sequence[Message]:
    await put_a_route(context)
    return [routes_pb2.ResolveRouteRequest(tenant_id=TENANT, model=NAME, document=ROUTE, request_id="req_1")]


async def inference_list_upstreams(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [inference_pb2.ListUpstreamsRequest()]


async def inference_describe_upstream(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [inference_pb2.DescribeUpstreamRequest(name=UNUSED_UPSTREAM)]


async def get_upstream_health(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [pb.GetUpstreamHealthRequest(name=UNUSED_UPSTREAM)]


async def list_configuration_changes(context: CallContext) -> Sequence[Message]:
    await add_flag(context)
    return [configuration_pb2.ListConfigurationChangesRequest(limit=1)]


async def diff_configuration(context: CallContext) -> Sequence[Message]:
    await add_flag(context)
    scope = configuration_pb2.ConfigurationKey(kind="flag", name=KEY)
    return [configuration_pb2.DiffConfigurationRequest(from_version=0, scope=scope)]


async def rollback_configuration(context: CallContext) -> Sequence[Message]:
    await add_upstream(context)
    different = pb.PutUpstreamRequest(name=NAME, document=DIFFERENT, reason=REASON)
    await context.call("PutUpstream", different)
    listed = await context.call(
        "ListConfigurationChanges",
        configuration_pb2.ListConfigurationChangesRequest(
            limit=1, scope=configuration_pb2.ConfigurationKey(kind="upstream", name=NAME)
        ),
    )
    scope = configuration_pb2.ConfigurationKey(kind="upstream", name=NAME)
    version = listed.changes[0].version - 1
    return [configuration_pb2.RollbackConfigurationRequest(to_version=version, scope=scope, dry_run=True)]


async def purge_cache(context: CallContext) -> Sequence[Message]:
    return [cache_pb2.PurgeCacheRequest(model="both-ways")]


METHODS = {
    "UpstreamService": (
        list_upstreams,
        get_upstream,
        get_upstream_health,
        put_upstream,
        delete_upstream,
        list_credentials,
        add_credential,
        change_credential,
        delete_credential,
        shred_credentials,
    ),
    "RouteService": (list_routes, get_route, put_route, delete_route, resolve_route),
    "UpstreamWatchService": (watch_upstreams,),
    "ResponseCacheService": (purge_cache,),
    "ConfigurationService": (list_configuration_changes, diff_configuration, rollback_configuration),
}
CASES["/argosy.metering.v1.MeteringService/ListPriceVersions"] = list_price_versions
CASES["/argosy.inference.v1.InferenceService/ListUpstreams"] = inference_list_upstreams
CASES["/argosy.inference.v1.InferenceService/DescribeUpstream"] = inference_describe_upstream
for service, methods in METHODS.items():
    for method in methods:
        CASES[f"{PACKAGE}.{service}/{''.join(word.title() for word in method.__name__.split('_'))}"] = method
