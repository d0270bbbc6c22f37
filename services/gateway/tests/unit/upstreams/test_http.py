"""`/admin/v1/upstreams`, and credentials that go in and do not come out."""

from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from argosy.inference.v1 import inference_pb2
from values.protos import duration_to_proto

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture

URL = "/admin/v1/upstreams/openai"
OPENAI = {"reason": "a test", "kind": "openai", "base_url": "https://api.example.com/v1"}
CANARY = "sk-canary-d41d8cd98f00b204"


async def test_an_upstream_is_put_read_listed_and_deleted(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    put = await admin.put(URL, json={**OPENAI, "capabilities": {"tools": True}, "version": 0})

    assert put.status_code == 200, put.text
    upstream = put.json()
    assert (upstream["name"], upstream["version"], upstream["kind"]) == ("openai", 1, "openai")
    assert upstream["capabilities"]["tools"] is True
    assert (await admin.get(URL)).json() == upstream
    assert (await admin.get("/admin/v1/upstreams")).json() == {"object": "list", "data": [upstream]}
    (request,) = gateway.upstreams.put
    assert request.expected_version == 0
    assert orjson.loads(request.document) == {
        "kind": "openai",
        "base_url": OPENAI["base_url"],
        "capabilities": {"tools": True},
    }
    assert (await admin.delete(URL, params={"reason": "a test"})).status_code == 204
    assert (await admin.get(URL)).json()["error"]["code"] == "upstream_not_found"
    actions = [row["action"] for row in await audit_trail(admin, gateway.tenants["platform"])]
    assert {"upstream.put", "upstream.delete"} <= set(actions)


async def test_what_is_not_set_is_left_to_the_kind_and_a_null_is_kept(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    await admin.put(URL, json={**OPENAI, "kind": "anthropic", "version_header": "2024-01-01", "encoding": None})

    (request,) = gateway.upstreams.put
    assert not request.HasField("expected_version")
    document = orjson.loads(request.document)
    assert (document["version"], document["encoding"]) == ("2024-01-01", None)
    assert "version_header" not in document
    assert (await admin.get(URL)).json()["version_header"] == "2024-01-01"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"kind": "onnx"}, "kind"),
        ({"api_key": CANARY}, "api_key"),
        ({"reason": " "}, "reason"),
        ({"max_connections": 0}, "max_connections"),
        ({"capabilities": {"telepathy": True}}, "capabilities.telepathy"),
        ({"connect_timeout_seconds": 3600}, "connect_timeout_seconds"),
    ],
)
async def test_bad_input_is_named_and_not_quoted(admin: httpx.AsyncClient, changes: dict[str, Any], param: str) -> None:
    response = await admin.put(URL, json={**OPENAI, **changes})

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert CANARY not in response.text


@pytest.mark.parametrize("name", ["A", "a%2Fb", "-a", "a" * 64])
async def test_a_name_that_could_not_stand_in_a_price_key_is_refused(admin: httpx.AsyncClient, name: str) -> None:
    response = await admin.put(f"/admin/v1/upstreams/{name}", json=OPENAI)

    assert response.status_code in {400, 404}


async def test_a_credential_goes_in_and_does_not_come_out(
    gateway: GatewayFixture,
    admin: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await admin.put(URL, json=OPENAI)
    body = {"reason": "a test", "secret": CANARY, "tenant_id": gateway.tenants["demo"], "label": "first", "weight": 3}

    added = await admin.post(f"{URL}/credentials", json=body)
    listed = await admin.get(f"{URL}/credentials", params={"tenant_id": gateway.tenants["demo"]})
    changed = await admin.patch(f"{URL}/credentials/crd_1", json={"reason": "a test", "enabled": False})

    assert added.status_code == 201, added.text
    assert gateway.upstreams.secrets == {"crd_1": CANARY}
    assert added.json()["weight"] == 3
    assert listed.json()["data"] == [added.json()]
    assert changed.json() == {**added.json(), "enabled": False}
    trail = await audit_trail(admin, gateway.tenants["platform"])
    assert {"credential.add", "credential.change"} <= {row["action"] for row in trail}
    printed = capsys.readouterr()
    for text in (added.text, listed.text, changed.text, str(trail), caplog.text, printed.out, printed.err):
        assert CANARY not in text
    deleted = await admin.delete(
        f"{URL}/credentials/crd_1", params={"reason": "a test", "tenant_id": gateway.tenants["demo"]}
    )
    assert deleted.status_code == 204
    again = await admin.delete(f"{URL}/credentials/crd_1", params={"reason": "a test"})
    assert again.json()["error"]["code"] == "credential_not_found"


@pytest.mark.parametrize(
    "changes",
    [{"secret": "short"}, {"weight": 0}, {"weight": 1.0}, {"tenant_id": "a b"}, {"unknown": 1}, {"secret": ["a"]}],
)
async def test_a_bad_credential_is_refused_without_being_quoted(
    admin: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    response = await admin.post(f"{URL}/credentials", json={"reason": "a test", "secret": CANARY, **changes})

    assert response.status_code == 400, response.text
    assert CANARY not in response.text


async def test_a_tenant_that_does_not_exist_brings_no_credential(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    body = {"reason": "a test", "secret": CANARY, "tenant_id": "ten_nobody"}

    response = await admin.post(f"{URL}/credentials", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "tenant_not_found")
    assert not gateway.upstreams.secrets


async def test_shredding_says_how_many_there_were(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    tenant = gateway.tenants["demo"]
    for tenant_id in (tenant, tenant, "*"):
        body = {"reason": "a test", "secret": CANARY, "tenant_id": tenant_id}
        await admin.post(f"{URL}/credentials", json=body)

    response = await admin.post("/admin/v1/upstreams/shred", json={"reason": "it has left", "tenant_id": tenant})

    assert response.json() == {"object": "credentials.shredded", "tenant_id": tenant, "deleted": 2}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PUT", "/openai"), ("DELETE", "/openai"), ("POST", "/openai/credentials"), ("POST", "/shred")],
)
async def test_a_member_may_do_nothing_here(gateway: GatewayFixture, method: str, path: str) -> None:
    async with gateway.client("demo") as member, gateway.client(None) as stranger:
        for client, status in ((member, 403), (stranger, 401)):
            response = await client.request(
                method, f"/admin/v1/upstreams{path}", json={"reason": "a test", "secret": CANARY}
            )
            assert response.status_code == status

    assert not gateway.upstreams.secrets


CLOSED = inference_pb2.Circuit(credential_id="crd_1", model="good", state=inference_pb2.CIRCUIT_STATE_CLOSED, calls=9)
OPEN = inference_pb2.Circuit(
    credential_id="crd_1",
    model="bad",
    state=inference_pb2.CIRCUIT_STATE_OPEN,
    probe_in=duration_to_proto(timedelta(seconds=1.5)),
    calls=12,
    failures=6,
    slow=1,
)
HALF_OPEN = inference_pb2.Circuit(credential_id="crd_2", model="bad", state=inference_pb2.CIRCUIT_STATE_HALF_OPEN)
FOR_ONE = inference_pb2.Circuit(
    credential_id="crd_1", model="worse", state=inference_pb2.CIRCUIT_STATE_OPEN, only_tenant_id="ten_1"
)
RESTING = inference_pb2.Circuit(
    credential_id="crd_3",
    model="good",
    state=inference_pb2.CIRCUIT_STATE_CLOSED,
    credential_rests_for=duration_to_proto(timedelta(seconds=30)),
)


@pytest.mark.parametrize(
    ("circuits", "left_out", "status"),
    [
        ([], 0, "unused"),
        ([CLOSED], 0, "up"),
        ([OPEN, CLOSED], 0, "degraded"),
        ([RESTING, CLOSED], 0, "degraded"),
        ([OPEN, HALF_OPEN, RESTING], 0, "down"),
        ([OPEN], 1, "degraded"),
        ([OPEN, FOR_ONE], 0, "degraded"),
    ],
)
async def test_the_health_of_an_upstream_is_that_of_its_circuits(
    gateway: GatewayFixture,
    admin: httpx.AsyncClient,
    circuits: list[inference_pb2.Circuit],
    left_out: int,
    status: str,
) -> None:
    await admin.put(URL, json=OPENAI)
    gateway.upstreams.health = inference_pb2.UpstreamHealth(circuits=circuits, left_out=left_out)
    read = await admin.get(f"{URL}/health")

    assert read.status_code == 200, read.text
    health = read.json()
    assert (health["name"], health["status"], health["left_out"]) == ("openai", status, left_out)
    assert [one["model"] for one in health["circuits"]] == [one.model for one in circuits]


async def test_a_circuit_is_shown_with_its_times_and_counts(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    await admin.put(URL, json=OPENAI)
    gateway.upstreams.health = inference_pb2.UpstreamHealth(circuits=[OPEN])

    assert (await admin.get(f"{URL}/health")).json()["circuits"] == [
        {
            "credential_id": "crd_1",
            "model": "bad",
            "state": "open",
            "probe_in_seconds": 1.5,
            "rests_seconds": 0.0,
            "credential_rests_seconds": 0.0,
            "calls": 12,
            "failures": 6,
            "slow": 1,
            "only_tenant_id": None,
        }
    ]
    unknown = await admin.get("/admin/v1/upstreams/nowhere/health")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "upstream_not_found")
