"""`/v1/deletions/{id}`."""

import httpx

from services.gateway.tests.unit.vector_stores.test_http import a_file


async def test_a_report_says_what_is_left_and_then_that_all_is_gone(
    demo: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    file = await a_file(demo)
    before = await demo.get(f"/v1/deletions/{file}")
    await demo.delete(f"/v1/files/{file}")

    first, second = [(await demo.get(f"/v1/deletions/{file}")).json() for _ in range(2)]

    assert (before.status_code, before.json()["error"]["code"]) == (404, "deletion_not_found")
    nothing = {"records": 0, "chunks": 0, "vectors": 0, "keywords": 0, "objects": 0}
    assert first == {
        "id": file,
        "object": "deletion_report",
        "status": "in_progress",
        "deleted_at": 1767312000,
        "checked_at": 1767312000,
        "remaining": {**nothing, "objects": 1},
    }
    assert (second["status"], second["remaining"]) == ("completed", nothing)
    assert (await other.get(f"/v1/deletions/{file}")).status_code == 404
