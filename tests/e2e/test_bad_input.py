"""Every error has OpenAI's shape and a stable code, and does not harm the fleet."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("simulator")]

MESSAGES = [{"role": "user", "content": "hello"}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="
)


@pytest.fixture
async def http(fleet: Fleet) -> Any:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as client:
        yield client


def assert_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    """The response is this error, in OpenAI's shape."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["code"] == code, error
    assert len(error["message"]) > 10
    if param is not None:
        assert error["param"] == param
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer sk-whatever"}, "invalid_api_key"),
        ({"authorization": "Basic abc"}, "missing_api_key"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/admin/v1/tenants"])
async def test_a_request_without_a_valid_key_is_unauthenticated(
    fleet: Fleet, header: dict[str, str], code: str, path: str
) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=header, timeout=60) as http:
        call = http.post(path, json={}) if path.endswith("completions") else http.get(path)
        assert_error(await call, 401, code)


async def test_a_key_with_one_wrong_letter_fails_its_checksum(fleet: Fleet) -> None:
    key = fleet.api_key[:-9] + ("A" if fleet.api_key[-9] != "A" else "B") + fleet.api_key[-8:]
    async with httpx.AsyncClient(
        base_url=fleet.base_url, headers={"authorization": f"Bearer {key}"}, timeout=60
    ) as http:
        assert_error(await http.get("/v1/models"), 401, "invalid_api_key")


async def test_a_revoked_key_is_rejected_within_a_second(fleet: Fleet, http: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=60) as admin:
        tenant = (await admin.post("/admin/v1/tenants", json={"name": fleet.unique("revoked")})).json()
        project = (await admin.post("/admin/v1/projects", json={"tenant_id": tenant["id"], "name": "p"})).json()
        created = await admin.post(
            "/admin/v1/keys", json={"tenant_id": tenant["id"], "project_id": project["id"], "name": "k"}
        )
        assert created.status_code in {200, 201}, created.text
        bearer = {"authorization": f"Bearer {created.json()['key']}"}
        assert (await http.get("/v1/models", headers=bearer)).status_code == 200
        revoked = await admin.post(f"/admin/v1/keys/{created.json()['id']}/revoke")
        assert revoked.status_code == 200, revoked.text
        await asyncio.sleep(1)
        assert_error(await http.get("/v1/models", headers=bearer), 401, "key_revoked")


async def test_another_tenants_object_is_not_found(fleet: Fleet, http: httpx.AsyncClient) -> None:
    file = (await http.post("/v1/files", files={"file": ("a.txt", b"secret")}, data={"purpose": "assistants"})).json()
    store = (await http.post("/v1/vector_stores", json={"name": "mine"})).json()
    chat = await http.post("/v1/chat/completions", json={"model": "smollm2", "max_tokens": 2, "messages": MESSAGES})
    async with fleet.new_tenant() as other:
        assert_error(await other.get(f"/v1/files/{file['id']}"), 404, "file_not_found")
        assert_error(await other.get(f"/v1/files/{file['id']}/content"), 404, "file_not_found")
        assert_error(await other.delete(f"/v1/files/{file['id']}"), 404, "file_not_found")
        assert_error(await other.get(f"/v1/vector_stores/{store['id']}"), 404, "vector_store_not_found")
        assert_error(
            await other.post(f"/v1/vector_stores/{store['id']}/search", json={"query": "x"}),
            404,
            "vector_store_not_found",
        )
        assert_error(await other.get(f"/v1/requests/{chat.headers['x-request-id']}"), 404, "request_not_found")
        request = {
            "model": "smollm2",
            "messages": MESSAGES,
            "argosy": {"retrieval": {"vector_store_ids": [store["id"]]}},
        }
        assert_error(await other.post("/v1/chat/completions", json=request), 404, "vector_store_not_found")
        assert (await other.get("/v1/files")).json()["data"] == []
    assert (await http.get(f"/v1/files/{file['id']}")).status_code == 200


async def test_a_tenants_key_cannot_administer(http: httpx.AsyncClient) -> None:
    assert_error(await http.get("/admin/v1/tenants"), 403, "permission_denied")


async def test_a_model_without_a_price_is_rejected_before_it_is_called(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.add_model("sim-unpriced", upstream_model="unpriced", priced=False)
    answer = await http.post("/v1/chat/completions", json={"model": "sim-unpriced", "messages": MESSAGES})
    assert_error(answer, 400, "unpriced_model")


async def test_a_budget_that_is_used_up_is_insufficient_quota(fleet: Fleet) -> None:
    async with fleet.new_tenant(cap_usd="0.000000001") as tenant:
        answer = await tenant.post(
            "/v1/chat/completions", json={"model": "smollm2", "max_tokens": 64, "messages": MESSAGES}
        )
        assert_error(answer, 429, "insufficient_quota")


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
async def test_an_invalid_body_is_rejected_with_the_name_of_the_parameter(
    http: httpx.AsyncClient, body: bytes, code: str, param: str | None
) -> None:
    answer = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert_error(answer, 400, code, param)


async def test_an_image_for_a_model_that_reads_none_is_refused_before_a_call(http: httpx.AsyncClient) -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    content = [{"type": "text", "text": "What is this?"}, image]
    body = {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
    answer = await http.post("/v1/chat/completions", json=body)

    assert_error(answer, 400, "no_eligible_candidate", "model")
    assert "local/smollm2-135m-instruct: it reads no images" in answer.json()["error"]["message"]
    # Nothing was reserved for it.
    statement = await http.get(f"/v1/requests/{answer.headers['x-request-id']}")
    assert_error(statement, 404, "request_not_found")


async def test_a_body_that_is_too_large_is_rejected(http: httpx.AsyncClient) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "x" * 30_000_000}]}
    assert_error(await http.post("/v1/chat/completions", json=body), 413, "request_too_large")


@pytest.mark.degraded(down="provider", area="sync", holds="without another candidate the error is typed")
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("429", 429, "upstream_rate_limited"),
        ("500", 502, "upstream_failed"),
        ("400", 400, "upstream_rejected"),
        ("garbage", 502, "upstream_invalid_response"),
        ("timeout", 504, "upstream_timed_out"),
    ],
)
async def test_an_upstream_that_fails_before_its_first_byte_is_a_typed_error(
    fleet: Fleet, http: httpx.AsyncClient, model: str, status: int, code: str
) -> None:
    await fleet.add_model(f"sim-{model}", upstream_model=model)
    body = {"model": f"sim-{model}", "messages": MESSAGES, "max_tokens": 16}
    calls = (http.post("/v1/chat/completions", json=body | {"stream": stream}) for stream in (False, True))
    for response in await asyncio.gather(*calls):
        assert_error(response, status, code)


@pytest.mark.parametrize(("model", "code"), [("cut", "upstream_interrupted"), ("error-event", "upstream_interrupted")])
async def test_an_upstream_that_fails_mid_stream_ends_in_an_error_event(
    fleet: Fleet, http: httpx.AsyncClient, model: str, code: str
) -> None:
    await fleet.add_model(f"sim-{model}", upstream_model=model)
    body = {"model": f"sim-{model}", "messages": MESSAGES, "stream": True, "max_tokens": 16}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert len(events) > 1
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["code"] == code


@pytest.mark.degraded(down="provider", area="sync", holds="the next candidate of the route answers")
async def test_a_failing_candidate_falls_back_to_the_next_before_the_first_byte(
    fleet: Fleet, http: httpx.AsyncClient
) -> None:
    await fleet.add_model("sim-fallback", upstream_model="500?of=fallback", fallback="instant")
    answer = await http.post(
        "/v1/chat/completions", json={"model": "sim-fallback", "messages": MESSAGES, "max_tokens": 16}
    )
    assert answer.status_code == 200, answer.text
    statement = await fleet.statement_of(http, answer.headers["x-request-id"])
    # The first candidate is called once or twice: nobody pays for that.
    *failed, answered = [s["outcome"] for s in statement["settlements"]]
    assert answered == "billed"
    assert set(failed) == {"released"}
