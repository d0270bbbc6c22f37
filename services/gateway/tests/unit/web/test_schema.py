"""Every operation accepts what the OpenAPI document allows, and refuses what it forbids without an error of its own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from gateway.settings import LimitsSection
from hypothesis import HealthCheck, Phase, given, settings

from services.gateway.tests.fakes.gateway import GatewayFixture, run_gateway
from services.gateway.tests.fakes.openapi import ApiRequest, Operation, operations, valid_requests

EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LIMITS = LimitsSection(output_tokens=1_000, messages=5, choices=2)
HOT_OPERATIONS = {"POST /v1/chat/completions", "POST /v1/embeddings", "POST /v1/rerank", "POST /v1/jobs"}
# Of no type that any field has.
WRONG: list[Any] = [{"\x00": []}, [[[]]]]
BYTES = (b"", b"{", b"\xff\xfe", b"[" * 1_000, b'{"a":' * 400, b"NaN", b'"\\ud800"', b"--x\r\n")
REFUSED_FOR_ITS_FORM = {400, 405, 413, 414, 422, 431}
FAR_FUTURE = 4_102_444_800  # the year 2100


def document() -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        async with run_gateway(limits=LIMITS) as gateway, gateway.client(None) as client:
            found: dict[str, Any] = (await client.get("/openapi.json")).json()
            return found

    return asyncio.run(read())


OPERATIONS = operations(document())


def keep_cross_rules(operation: Operation, request: ApiRequest) -> ApiRequest:
    """Rules between values, which a schema cannot have; the description of the operation names them."""
    if operation.path == "/v1/usage" and "start" in request.query:
        request.query.pop("end", None)  # it must be after start
    if operation.path == "/admin/v1/keys" and operation.method == "POST":
        if request.body.get("expires_at") is not None:
            request.body["expires_at"] = FAR_FUTURE  # it must be in the future
        if "platform_admin" in request.body.get("roles", ()):
            request.body["roles"] = ["member"]  # of the creator's tenant only: 403
    if str(operation) == "POST /v1/jobs":  # the body is that of the endpoint
        request.body["endpoint"] = "/v1/" + ("chat/completions" if "messages" in request.body["body"] else "embeddings")
    if operation.path.startswith("/admin/v1/queues/"):
        request.body["pool"] = "default"  # at least one is named
    if operation.path.startswith("/admin/v1/pools/") and operation.method == "PUT":
        request.body["min_replicas"] = 0  # not above max_replicas
    if operation.path.endswith("/file_batches"):  # exactly one of two lists
        kept = "file_ids" if request.body.get("file_ids") or not request.body.get("files") else "files"
        request.body.pop("files" if kept == "file_ids" else "file_ids", None)
        request.body[kept] = request.body.get(kept) or ["file-1"]
    keep_rules_of_vector_stores(request.body)
    if operation.path.endswith("/reconcile") and request.body.get("decision") == "written_off":
        request.body.pop("billed_usd", None)  # only for what is billed
    return request


def keep_rules_of_vector_stores(body: Any) -> None:
    """Rules between the values of filters, and of chunking strategies."""
    for comparison in found_under("filters", body):
        if comparison.get("type") in {"gt", "gte", "lt", "lte"} and isinstance(comparison["value"], bool):
            comparison["value"] = 1  # true and false have no order
    for strategy in found_under("chunking_strategy", body):
        # `static` stands beside the type of that name alone; the overlap is at most half of max_chunk_size_tokens.
        if strategy.get("static"):
            strategy["type"], strategy["static"]["chunk_overlap_tokens"] = "static", 0
        else:
            strategy["type"] = "auto"


def found_under(name: str, body: Any) -> list[dict[str, Any]]:
    """The objects that a body has under a name, alone or in a list, however deep."""
    if isinstance(body, list):
        return [found for item in body for found in found_under(name, item)]
    if not isinstance(body, dict):
        return []
    here = body.get(name) or []
    found = [item for item in (here if isinstance(here, list) else [here]) if isinstance(item, dict)]
    return found + [each for value in body.values() for each in found_under(name, value)]


def generated(operation: Operation) -> list[ApiRequest]:
    """Requests that the document allows."""
    found: list[ApiRequest] = []

    @EXAMPLES
    @given(valid_requests(operation))
    def collect(request: ApiRequest) -> None:
        found.append(keep_cross_rules(operation, request))

    collect()
    return found


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayFixture]:
    """With the limits that the document states, and room for its longest fields."""
    async with run_gateway(limits=LIMITS) as gateway:
        yield gateway


async def send(client: httpx.AsyncClient, operation: Operation, request: ApiRequest) -> httpx.Response:
    return await client.request(operation.method, request.path, **request.arguments())


async def test_what_the_document_allows_is_accepted(demo: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    refused = []
    for operation in OPERATIONS:
        client = admin if operation.path.startswith("/admin") else demo
        for request in generated(operation):
            response = await send(client, operation, request)
            # FakeInference returns no vectors and no scores, which is an error of the model.
            upstream = operation.path in {"/v1/embeddings", "/v1/rerank"} and response.status_code == 502
            if response.status_code in REFUSED_FOR_ITS_FORM or (response.status_code >= 500 and not upstream):
                refused.append((str(operation), request, response.text))

    assert refused == []


def allows_objects(operation: Operation, schema: dict[str, Any]) -> bool:
    choices = [operation.resolve(choice) for choice in schema.get("anyOf", [schema])]
    return any(choice.get("type") == "object" for choice in choices)


def spoiled(operation: Operation, request: ApiRequest) -> list[ApiRequest]:
    """The request with one thing that the document forbids, in every way."""
    found = [
        replace(request, query=request.query | {each["name"]: bad})
        for each in operation.spec.get("parameters", [])
        if each["in"] == "query"
        for bad in ("\x00", "a b\n")
    ]
    if str(operation) not in HOT_OPERATIONS:  # whose queries are not read
        found.append(replace(request, query=request.query | {"colour": "red"}))
    if request.content_type != "application/json":
        return found
    schema = operation.resolve(operation.body[1] if operation.body else {})
    bodies: list[Any] = [None, [], "text", 7, True, *WRONG]
    bodies += [
        {name: value for name, value in request.body.items() if name != missing}
        for missing in schema.get("required", ())
    ]
    bodies += [
        request.body | {name: wrong}
        for name, found in schema["properties"].items()
        for wrong in WRONG
        if not (isinstance(wrong, dict) and allows_objects(operation, found))
    ]
    if schema.get("additionalProperties") is False:
        bodies.append(request.body | {"colour": "red"})
    return found + [replace(request, body=body) for body in bodies]


async def test_what_the_document_forbids_is_the_clients_error(
    demo: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    accepted = []
    for operation in OPERATIONS:
        client = admin if operation.path.startswith("/admin") else demo
        for request in spoiled(operation, generated(operation)[-1]):
            response = await send(client, operation, request)
            if response.status_code != 400:
                accepted.append((str(operation), request, response.text))

    assert accepted == []


async def test_bytes_that_are_no_body_are_the_clients_error(demo: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    for operation in OPERATIONS:
        client = admin if operation.path.startswith("/admin") else demo
        path = operation.path.replace("{", "").replace("}", "")
        for content in BYTES if operation.body else ():
            for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain"):
                headers = {"content-type": kind}
                response = await client.request(operation.method, path, content=content, headers=headers)
                assert response.status_code == 400, (operation, kind, content[:9], response.text)
