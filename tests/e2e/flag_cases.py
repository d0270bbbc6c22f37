"""A request that succeeds for each method of FlagService; importing this registers them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from argosy.orchestration.v1 import flags_pb2 as pb
from google.protobuf.message import Message

from tests.e2e.call_context import CallContext
from tests.e2e.method_cases import CASES

SERVICE = "/argosy.orchestration.v1.FlagService"
KEY, REASON = "app.transports", "both ways"
DOCUMENT = json.dumps({"type": "boolean", "variants": {"on": True, "off": False}, "default_variant": "on"}).encode()


def as_admin(context: CallContext) -> None:
    context.principal = replace(context.principal, roles=frozenset({"platform_admin"}))


async def add_flag(context: CallContext) -> None:
    as_admin(context)
    await context.call("PutFlag", pb.PutFlagRequest(key=KEY, document=DOCUMENT, reason=REASON))


async def list_flags(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [pb.ListFlagsRequest()]


async def get_flag(context: CallContext) -> Sequence[Message]:
    await add_flag(context)
    return [pb.GetFlagRequest(key=KEY)]


async def put_flag(context: CallContext) -> Sequence[Message]:
    as_admin(context)
    return [pb.PutFlagRequest(key=KEY, document=DOCUMENT, reason=REASON)]


async def change_flag(context: CallContext) -> Sequence[Message]:
    await add_flag(context)
    return [pb.ChangeFlagRequest(key=KEY, action=pb.FLAG_ACTION_KILL, reason=REASON)]


async def list_flag_versions(context: CallContext) -> Sequence[Message]:
    await add_flag(context)
    return [pb.ListFlagVersionsRequest(key=KEY, limit=1)]


async def evaluate_flags(context: CallContext) -> Sequence[Message]:
    await add_flag(context)
    return [pb.EvaluateFlagsRequest(keys=[KEY], tenant_id="ten_1")]


async def check_feature(context: CallContext) -> Sequence[Message]:
    return [pb.CheckFeatureRequest(feature="chat")]


METHODS = (list_flags, get_flag, put_flag, change_flag, list_flag_versions, evaluate_flags, check_feature)
CASES |= {f"{SERVICE}/{''.join(word.title() for word in one.__name__.split('_'))}": one for one in METHODS}
