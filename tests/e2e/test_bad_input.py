"""Every refusal has OpenAI's error shape and a stable code, and leaves the fleet unharmed."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.fleet import Fleet

pytestmark = pytest.mark.fleet

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def http(fleet: Fleet) -> Any:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as client:
        yield client


def refused(answer: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    """The answer is this refusal, in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["code"] == code, error
    assert len(error["message"]) > 10
    if param is not None:
        assert error["param"] == param
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer sk-whatever"}, "invalid_api_key"),
        ({"authorization": "Basic abc"}, "missing_api_key"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/admin/v1/tenants"])
async def test_nobody_is_served_without_a_key(fleet: Fleet, header: dict[str, str], code: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=header) as http:
        call = http.post(path, json={}) if path.endswith("completions") else http.get(path)
        refused(await call, 401, code)


async def test_a_key_with_one_wrong_letter_fails_its_checksum(fleet: Fleet) -> None:
    key = fleet.api_key[:-9] + ("A" if fleet.api_key[-9] != "A" else "B") + fleet.api_key[-8:]
    async with httpx.AsyncClient(base_url=fleet.base_url, headers={"authorization": f"Bearer {key}"}) as http:
        refused(await http.get("/v1/models"), 401, "invalid_api_key")


async def test_a_revoked_key_is_refused_within_a_second(fleet: Fleet, http: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin) as admin:
        tenant = (await admin.post("/admin/v1/tenants", json={"name": fleet.unique("revoked")})).json()
        project = (await admin.post("/admin/v1/projects", json={"tenant_id": tenant["id"], "name": "p"})).json()
        made = await admin.post(
            "/admin/v1/keys", json={"tenant_id": tenant["id"], "project_id": project["id"], "name": "k"}
        )
        assert made.status_code in {200, 201}, made.text
        bearer = {"authorization": f"Bearer {made.json()['key']}"}
        assert (await http.get("/v1/models", headers=bearer)).status_code == 200
        revoked = await admin.post(f"/admin/v1/keys/{made.json()['id']}/revoke")
        assert revoked.status_code == 200, revoked.text
        await asyncio.sleep(1)
        refused(await http.get("/v1/models", headers=bearer), 401, "key_revoked")


async def test_another_tenants_object_is_not_found(fleet: Fleet, http: httpx.AsyncClient) -> None:
    file = (await http.post("/v1/files", files={"file": ("a.txt", b"secret")}, data={"purpose": "assistants"})).json()
    store = (await http.post("/v1/vector_stores", json={"name": "mine"})).json()
    chat = await http.post("/v1/chat/completions", json={"model": "smollm2", "max_tokens": 2, "messages": MESSAGES})
    async with fleet.stranger() as other:
        refused(await other.get(f"/v1/files/{file['id']}"), 404, "file_not_found")
        refused(await other.get(f"/v1/files/{file['id']}/content"), 404, "file_not_found")
        refused(await other.delete(f"/v1/files/{file['id']}"), 404, "file_not_found")
        refused(await other.get(f"/v1/vector_stores/{store['id']}"), 404, "vector_store_not_found")
        refused(
            await other.post(f"/v1/vector_stores/{store['id']}/search", json={"query": "x"}),
            404,
            "vector_store_not_found",
        )
        refused(await other.get(f"/v1/requests/{chat.headers['x-request-id']}"), 404, "request_not_found")
        asked = {"model": "smollm2", "messages": MESSAGES, "argosy": {"retrieval": {"vector_store_ids": [store["id"]]}}}
        refused(await other.post("/v1/chat/completions", json=asked), 404, "vector_store_not_found")
        assert (await other.get("/v1/files")).json()["data"] == []
    assert (await http.get(f"/v1/files/{file['id']}")).status_code == 200


async def test_a_tenants_key_does_not_administer(http: httpx.AsyncClient) -> None:
    refused(await http.get("/admin/v1/tenants"), 403, "permission_denied")


async def test_a_model_without_a_price_is_refused_before_it_is_called(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.offer("sim-unpriced", model="unpriced", priced=False)
    answer = await http.post("/v1/chat/completions", json={"model": "sim-unpriced", "messages": MESSAGES})
    refused(answer, 400, "unpriced_model")


async def test_a_spent_budget_is_insufficient_quota(fleet: Fleet) -> None:
    async with fleet.stranger(cap_usd="0.000000001") as poor:
        answer = await poor.post(
            "/v1/chat/completions", json={"model": "smollm2", "max_tokens": 64, "messages": MESSAGES}
        )
        refused(answer, 429, "insufficient_quota")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{not json", "invalid_json", None),
        (b"[]", "invalid_request", None),
        (b"{}", "invalid_request", "model"),
        (
            json.dumps({"model": "smollm2", "messages": [{"role": "user", "content": 7}]}).encode(),
            "invalid_request",
            "messages[0].content",
        ),
        (json.dumps({"model": "smollm2", "messages": MESSAGES, "stream": "yes"}).encode(), "invalid_request", "stream"),
        (
            json.dumps({"model": "smollm2", "messages": MESSAGES, "max_tokens": 10**9}).encode(),
            "invalid_request",
            "max_tokens",
        ),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "invalid_json", None),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_with_its_place(
    http: httpx.AsyncClient, body: bytes, code: str, param: str | None
) -> None:
    answer = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    refused(answer, 400, code, param)


async def test_a_body_that_is_too_large_is_refused(http: httpx.AsyncClient) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "x" * 30_000_000}]}
    refused(await http.post("/v1/chat/completions", json=body), 413, "request_too_large")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("429", 429, "upstream_rate_limited"),
        ("500", 502, "upstream_failed"),
        ("400", 400, "upstream_refused"),
        ("garbage", 502, "upstream_garbage"),
        ("timeout", 504, "upstream_timed_out"),
    ],
)
async def test_an_upstream_that_fails_before_its_first_byte_is_a_typed_error(
    fleet: Fleet, http: httpx.AsyncClient, model: str, status: int, code: str
) -> None:
    await fleet.offer(f"sim-{model}", model=model)
    for stream in (False, True):
        body = {"model": f"sim-{model}", "messages": MESSAGES, "stream": stream, "max_tokens": 16}
        refused(await http.post("/v1/chat/completions", json=body), status, code)


@pytest.mark.parametrize(("model", "code"), [("cut", "upstream_cut"), ("error-event", "upstream_cut")])
async def test_an_upstream_that_fails_mid_stream_ends_in_an_error_event(
    fleet: Fleet, http: httpx.AsyncClient, model: str, code: str
) -> None:
    await fleet.offer(f"sim-{model}", model=model)
    body = {"model": f"sim-{model}", "messages": MESSAGES, "stream": True, "max_tokens": 16}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert len(events) > 1
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["code"] == code


async def test_a_failing_candidate_falls_back_to_the_next_before_the_first_byte(
    fleet: Fleet, http: httpx.AsyncClient
) -> None:
    await fleet.offer("sim-fallback", model="500", then="instant")
    answer = await http.post(
        "/v1/chat/completions", json={"model": "sim-fallback", "messages": MESSAGES, "max_tokens": 16}
    )
    assert answer.status_code == 200, answer.text
    account = await fleet.account_of(http, answer.headers["x-request-id"])
    assert [s["outcome"] for s in account["settlements"]] == ["released", "billed"]
