"""`/v1/batches`."""

from typing import Any

import httpx
import pytest
from argosy.orchestration.v1 import batches_pb2 as pb

from services.gateway.tests.fakes.gateway import GatewayFixture

PATH = "/v1/batches"
BODY = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post(PATH, json=BODY | fields)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def test_a_batch_is_shown_in_openais_shape(demo: httpx.AsyncClient) -> None:
    shown = await create(demo, metadata={"job": "nightly"})
    assert shown == {
        "id": shown["id"],
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1767312000,
        "in_progress_at": None,
        "expires_at": 1767398400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": {"job": "nightly"},
    }
    assert shown["id"].startswith("batch_")
    assert (await demo.get(f"{PATH}/{shown['id']}")).json() == shown


@pytest.mark.parametrize(
    ("state", "field"),
    [
        (pb.BATCH_STATE_COMPLETED, "completed_at"),
        (pb.BATCH_STATE_FAILED, "failed_at"),
        (pb.BATCH_STATE_EXPIRED, "expired_at"),
        (pb.BATCH_STATE_CANCELLED, "cancelled_at"),
    ],
)
async def test_a_final_batch_has_its_time_counts_files_and_errors(
    demo: httpx.AsyncClient, gateway: GatewayFixture, state: pb.BatchState.ValueType, field: str
) -> None:
    batch_id = (await create(demo))["id"]
    stored = gateway.batches.batches[gateway.tenants["demo"], batch_id]
    stored.state, stored.total, stored.completed, stored.failed = state, 3, 2, 1
    stored.output_file_id, stored.error_file_id = "file-out", "file-err"
    stored.finished_at.FromSeconds(1_767_312_099)
    error = stored.errors.add(line=7)
    error.error.reason, error.error.message, error.error.param = "BATCH_LINE_INVALID", "line 7: no", "url"

    shown = (await demo.get(f"{PATH}/{batch_id}")).json()

    times = {name for name in ("completed_at", "failed_at", "expired_at", "cancelled_at") if shown[name]}
    assert times == {field}
    assert shown["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert (shown["output_file_id"], shown["error_file_id"]) == ("file-out", "file-err")
    assert shown["errors"] == {
        "object": "list",
        "data": [{"code": "batch_line_invalid", "message": "line 7: no", "param": "url", "line": 7}],
    }
    refused = await demo.post(f"{PATH}/{batch_id}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "batch_finished")


async def test_batches_are_listed_newest_first_page_by_page(demo: httpx.AsyncClient) -> None:
    ids = [(await create(demo))["id"] for _ in range(3)]
    first = (await demo.get(PATH, params={"limit": 2})).json()
    rest = (await demo.get(PATH, params={"limit": 2, "after": first["last_id"]})).json()
    assert [batch["id"] for batch in (*first["data"], *rest["data"])] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_a_batch_is_cancelled(demo: httpx.AsyncClient) -> None:
    batch_id = (await create(demo))["id"]
    shown = (await demo.post(f"{PATH}/{batch_id}/cancel")).json()
    assert (shown["status"], shown["cancelling_at"]) == ("cancelling", 1767312060)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"endpoint": "/v1/images"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"input_file_id": ""}, 400, "input_file_id"),
        ({"input_file_id": "file-none"}, 404, "input_file_id"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, 400, "output_expires_after"),
        ({"metadata": {"a": "x" * 513}}, 400, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, 400, "metadata"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused(
    demo: httpx.AsyncClient, fields: dict[str, Any], status: int, param: str
) -> None:
    response = await demo.post(PATH, json=BODY | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


async def test_another_tenants_batch_is_not_found(demo: httpx.AsyncClient, gateway: GatewayFixture) -> None:
    batch_id = (await create(demo))["id"]
    async with gateway.client("other") as other:
        for response in (await other.get(f"{PATH}/{batch_id}"), await other.post(f"{PATH}/{batch_id}/cancel")):
            assert (response.status_code, response.json()["error"]["code"]) == (404, "batch_not_found")
        assert (await other.get(PATH)).json()["data"] == []


async def test_an_idempotency_key_goes_with_a_new_batch(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    for headers in ({}, {"idempotency-key": '"abc"'}):
        assert (await demo.post(PATH, json=BODY, headers=headers)).status_code == 200
    bad = await demo.post(PATH, json=BODY, headers={"idempotency-key": "a b"})

    assert gateway.batches.idempotency_keys == ["", "abc"]
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "idempotency-key")
