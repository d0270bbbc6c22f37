"""Every request has an id, is authenticated, and gets errors of one shape."""

from typing import Any

import httpx
import pytest
from chassis.errors import Kind, RemoteError
from chassis.http import STATUS
from gateway.auth.api_key import mint_key

from services.gateway.tests.fakes.gateway import GatewayFixture, metric

ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/smollm2"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/file-1"),
    ("GET", "/v1/files/file-1/content"),
    ("DELETE", "/v1/files/file-1"),
    ("POST", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores/vs_1"),
    ("POST", "/v1/vector_stores/vs_1"),
    ("DELETE", "/v1/vector_stores/vs_1"),
    ("POST", "/v1/vector_stores/vs_1/files"),
    ("GET", "/v1/vector_stores/vs_1/files"),
    ("GET", "/v1/vector_stores/vs_1/files/file-1"),
    ("POST", "/v1/vector_stores/vs_1/files/file-1"),
    ("DELETE", "/v1/vector_stores/vs_1/files/file-1"),
    ("POST", "/v1/vector_stores/vs_1/file_batches"),
    ("GET", "/v1/vector_stores/vs_1/file_batches/vsfb_1"),
    ("POST", "/v1/vector_stores/vs_1/file_batches/vsfb_1/cancel"),
    ("GET", "/v1/vector_stores/vs_1/file_batches/vsfb_1/files"),
    ("GET", "/v1/deletions/file-1"),
    ("POST", "/v1/vector_stores/vs_1/migrations"),
    ("GET", "/v1/vector_stores/vs_1/migrations"),
    ("GET", "/v1/vector_stores/vs_1/migrations/vsm_1"),
    ("POST", "/v1/vector_stores/vs_1/migrations/vsm_1/cancel"),
    ("POST", "/v1/vector_stores/vs_1/search"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/batch_1"),
    ("POST", "/v1/batches/batch_1/cancel"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/job_1"),
    ("POST", "/v1/jobs/job_1/cancel"),
    ("GET", "/v1/jobs/job_1/events"),
    ("POST", "/v1/webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints/whe_1"),
    ("PATCH", "/v1/webhook_endpoints/whe_1"),
    ("DELETE", "/v1/webhook_endpoints/whe_1"),
    ("POST", "/v1/webhook_endpoints/whe_1/rotate_secret"),
    ("POST", "/v1/webhook_endpoints/whe_1/test"),
    ("GET", "/v1/webhook_deliveries"),
    ("GET", "/v1/webhook_deliveries/whd_1"),
    ("POST", "/v1/webhook_deliveries/whd_1/redeliver"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/budgets"),
    ("GET", "/v1/requests/req_1"),
    ("POST", "/admin/v1/tenants"),
    ("GET", "/admin/v1/tenants"),
    ("GET", "/admin/v1/tenants/ten_1"),
    ("PUT", "/admin/v1/tenants/ten_1/budget"),
    ("POST", "/admin/v1/projects"),
    ("GET", "/admin/v1/projects"),
    ("POST", "/admin/v1/keys"),
    ("GET", "/admin/v1/keys"),
    ("POST", "/admin/v1/keys/key_1/revoke"),
    ("GET", "/admin/v1/prices"),
    ("POST", "/admin/v1/prices"),
    ("GET", "/admin/v1/prices/a/b/versions"),
    ("POST", "/admin/v1/prices/a/b/rollback"),
    ("GET", "/admin/v1/audit"),
    ("GET", "/admin/v1/exposures"),
    ("GET", "/admin/v1/clamped-usage"),
    ("POST", "/admin/v1/exposures/req_1/reconcile"),
    ("GET", "/admin/v1/queues"),
    ("POST", "/admin/v1/queues/pause"),
    ("POST", "/admin/v1/queues/resume"),
    ("GET", "/admin/v1/jobs"),
    ("GET", "/admin/v1/jobs/job_1"),
    ("POST", "/admin/v1/jobs/job_1/retry"),
    ("POST", "/admin/v1/jobs/job_1/drop"),
    ("GET", "/admin/v1/flags"),
    ("POST", "/admin/v1/flags/evaluate"),
    ("GET", "/admin/v1/flags/feature.chat"),
    ("PUT", "/admin/v1/flags/feature.chat"),
    ("DELETE", "/admin/v1/flags/feature.chat"),
    ("POST", "/admin/v1/flags/feature.chat/kill"),
    ("POST", "/admin/v1/flags/feature.chat/restore"),
    ("POST", "/admin/v1/flags/feature.chat/rollback"),
    ("GET", "/admin/v1/flags/feature.chat/versions"),
    ("GET", "/admin/v1/upstreams"),
    ("POST", "/admin/v1/upstreams/shred"),
    ("GET", "/admin/v1/upstreams/openai"),
    ("GET", "/admin/v1/upstreams/openai/health"),
    ("PUT", "/admin/v1/upstreams/openai"),
    ("DELETE", "/admin/v1/upstreams/openai"),
    ("GET", "/admin/v1/upstreams/openai/credentials"),
    ("POST", "/admin/v1/upstreams/openai/credentials"),
    ("PATCH", "/admin/v1/upstreams/openai/credentials/crd_1"),
    ("DELETE", "/admin/v1/upstreams/openai/credentials/crd_1"),
    ("GET", "/admin/v1/routes"),
    ("POST", "/admin/v1/routes/resolve"),
    ("GET", "/admin/v1/routes/gpt"),
    ("PUT", "/admin/v1/routes/gpt"),
    ("DELETE", "/admin/v1/routes/gpt"),
    ("GET", "/admin/v1/routes/gpt/versions"),
    ("POST", "/admin/v1/routes/gpt/rollback"),
    ("GET", "/admin/v1/configuration/changes"),
    ("GET", "/admin/v1/configuration/diff"),
    ("POST", "/admin/v1/configuration/rollback"),
    ("DELETE", "/v1/cache"),
    ("DELETE", "/admin/v1/cache"),
    ("GET", "/admin/v1/pools"),
    ("GET", "/admin/v1/pools/gold"),
    ("PUT", "/admin/v1/pools/gold"),
    ("DELETE", "/admin/v1/pools/gold"),
]


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error, in OpenAI's shape; the response has a request id."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers.get_list("x-request-id") == [response.headers["x-request-id"]]
    return error


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/v1/nowhere"), ("GET", "/")])
async def test_every_route_needs_a_key(anonymous: httpx.AsyncClient, method: str, path: str) -> None:
    response = await anonymous.request(method, path)

    assert response.status_code == 401
    assert error_of(response)["code"] == "missing_api_key"
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_list_of_routes_is_complete(demo: httpx.AsyncClient) -> None:
    document = (await demo.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert len(described) == len(ROUTES)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic abc", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer  ", "missing_api_key"),
        ("Bearer sk-whatever", "invalid_api_key"),
        ("Bearer argosy_dev_x_y", "invalid_api_key"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/embeddings"])
async def test_a_malformed_key_is_rejected(gateway: GatewayFixture, header: str, code: str, path: str) -> None:
    async with gateway.client(None) as client:
        response = await client.request("POST" if "emb" in path else "GET", path, headers={"authorization": header})

    assert (response.status_code, error_of(response)["code"]) == (401, code)


async def test_an_unknown_key_is_rejected(anonymous: httpx.AsyncClient) -> None:
    _, text = mint_key("test")
    response = await anonymous.get("/v1/models", headers={"authorization": f"Bearer {text}"})

    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")


async def test_the_scheme_is_case_insensitive(gateway: GatewayFixture, anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/v1/models", headers={"authorization": f"bEARER {gateway.keys['demo']}"})

    assert response.status_code == 200


async def test_a_database_that_is_down_is_not_a_wrong_key(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.identity.down = True
    for path in ("/v1/models", "/v1/chat/completions"):
        response = await demo.request("GET" if path.endswith("models") else "POST", path)
        assert (response.status_code, error_of(response)["code"]) == (503, "service_unavailable")
        assert response.headers["retry-after"] == "1"


async def test_a_verified_key_is_accepted_without_the_database(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    await demo.get("/v1/models")
    gateway.identity.down = True

    assert (await demo.get("/v1/models")).status_code == 200


async def test_every_request_has_an_id_of_our_own(demo: httpx.AsyncClient) -> None:
    responses = [await demo.get("/v1/models", headers={"x-request-id": "mine"}) for _ in range(2)]

    ids = {response.headers["x-request-id"] for response in responses}
    assert len(ids) == 2
    assert all(found.startswith("req_") for found in ids)


async def test_an_unknown_path_is_not_found(demo: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/v1/nowhere"), ("GET", "/v1/models/"), ("POST", "/v1/chat/completions/")):
        response = await demo.request(method, path)
        assert response.status_code == 404
        assert error_of(response)["code"] in {"route_not_found", "model_not_found"}


async def test_an_unsupported_method_is_an_error(demo: httpx.AsyncClient) -> None:
    response = await demo.put("/v1/models")

    assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
async def test_an_unexpected_error_reveals_no_detail(
    gateway: GatewayFixture, demo: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(gateway.inference, "list_models", broken)
    monkeypatch.setattr(gateway.inference, "generate", broken)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    response = await (demo.get(path) if path.endswith("models") else demo.post(path, json=body))

    assert (response.status_code, error_of(response)["code"]) == (500, "internal")
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (RemoteError(Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID", "forged"), (503, "service_unavailable")),
        (RemoteError(Kind.INTERNAL, "INTERNAL", "at line 7 of secret.py"), (500, "internal")),
        (RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "No such model."), (404, "model_not_found")),
    ],
)
async def test_a_peers_error_is_public_unless_it_is_internal(
    gateway: GatewayFixture, monkeypatch: pytest.MonkeyPatch, failure: RemoteError, expected: tuple[int, str]
) -> None:
    def fail() -> None:
        raise failure

    monkeypatch.setattr(gateway.inference, "list_models", fail)
    async with gateway.client() as demo:
        response = await demo.get("/v1/models")

    assert (response.status_code, error_of(response)["code"]) == expected
    assert "secret" not in response.text
    assert "forged" not in response.text


async def test_requests_are_counted_by_the_template_of_their_route(demo: httpx.AsyncClient) -> None:
    def counted(route: str, status: int) -> float:
        return metric("gateway_requests_total", route=route, status=str(status))

    before = counted("/v1/files/{file_id}", 404)
    for number in range(3):
        await demo.get(f"/v1/files/file-{number}")
    assert counted("/v1/files/{file_id}", 404) == before + 3

    before = counted("/v1/chat/completions", 400)
    await demo.post("/v1/chat/completions", content=b"{")
    assert counted("/v1/chat/completions", 400) == before + 1

    before = counted("unknown", 404)
    await demo.get("/no/such/path")
    assert counted("unknown", 404) == before + 1


async def test_authentications_are_counted_by_outcome(demo: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    def counts() -> list[float]:
        return [
            metric("gateway_authentications_total", outcome="success"),
            metric("gateway_authentications_total", outcome="missing_api_key"),
            metric("gateway_key_cache_total", result="hit"),
            metric("gateway_key_cache_total", result="miss"),
        ]

    before = counts()
    await demo.get("/v1/models")
    await demo.get("/v1/models")
    await anonymous.get("/v1/models")
    assert [after - count for after, count in zip(counts(), before, strict=True)] == [2, 1, 1, 1]


async def test_the_document_describes_every_route_and_needs_no_key(anonymous: httpx.AsyncClient) -> None:
    document = (await anonymous.get("/openapi.json")).json()

    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ChatBody")
    assert "messages" in document["components"]["schemas"]["ChatBody"]["properties"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["responses"]["default"], (method, path)
            assert "422" not in operation["responses"]
            assert operation["security"] == [{"key": []}]
    text = str(document)
    for reference in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]


async def test_the_docs_need_no_key(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/docs")

    assert response.status_code == 200
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_body_that_is_too_large_is_refused_on_native_routes_too(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/admin/v1/tenants", json={"name": "x" * 3_000})

    assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"name":' * 200, b"[" * 2_000])
async def test_a_body_that_is_not_json_is_refused_on_native_routes_too(admin: httpx.AsyncClient, body: bytes) -> None:
    response = await admin.post("/admin/v1/tenants", content=body, headers={"content-type": "application/json"})

    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_json")


def test_every_kind_of_error_has_a_status() -> None:
    assert set(STATUS) == set(Kind)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/rerank", "/v1/jobs"])
@pytest.mark.parametrize("query", ["stream=true", "api-version=2024-10-21", "x", "x="])
async def test_a_query_parameter_of_a_route_that_has_none_is_refused(
    demo: httpx.AsyncClient, path: str, query: str
) -> None:
    response = await demo.post(f"{path}?{query}", json={})

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == query.partition("=")[0]
    assert error["message"] == f"There is no query parameter {error['param']}."
