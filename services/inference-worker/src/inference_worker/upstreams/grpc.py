"""The RPC `ListUpstreams`."""

from collections.abc import Collection
from typing import Any

from argosy.inference.v1 import inference_pb2
from chassis.tenancy import current_caller
from values.roles import PLATFORM_ADMIN, SERVICE


async def list_upstreams(
    upstreams: Collection[str],
    request: inference_pb2.ListUpstreamsRequest,  # noqa: ARG001 - an RPC
    context: Any,  # noqa: ARG001
) -> inference_pb2.ListUpstreamsResponse:
    """Name the upstreams that plans can use now. For operators and services."""
    current_caller().principal.require(PLATFORM_ADMIN, SERVICE)
    return inference_pb2.ListUpstreamsResponse(names=sorted(upstreams))
