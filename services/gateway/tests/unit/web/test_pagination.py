"""Queries take decimal digits, and nothing that only Python reads as a number."""

import httpx
import pytest

LISTS = ("/v1/files", "/v1/vector_stores", "/admin/v1/tenants")
NOT_DECIMAL = ["1_0", "+5", " 5", "5 ", "５", "٣", "1.0", "1e1", "0x5", "05", "--5", "", "9" * 40]


@pytest.mark.parametrize("limit", NOT_DECIMAL)
@pytest.mark.parametrize("path", LISTS)
async def test_a_limit_that_is_not_in_decimal_digits_is_refused(
    demo: httpx.AsyncClient, admin: httpx.AsyncClient, path: str, limit: str
) -> None:
    client = admin if path.startswith("/admin/") else demo
    response = await client.get(path, params={"limit": limit})

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_request", "limit")
    assert "whole number in decimal digits" in error["message"]


@pytest.mark.parametrize(("limit", "status"), [("1", 200), ("100", 200), ("0", 400), ("101", 400), ("-5", 400)])
async def test_a_limit_within_bounds_is_accepted(demo: httpx.AsyncClient, limit: str, status: int) -> None:
    assert (await demo.get("/v1/vector_stores", params={"limit": limit})).status_code == status


@pytest.mark.parametrize("start", ["1_0", "+5", " 5", "５", "1e1", "0x5"])
async def test_an_instant_that_is_not_in_decimal_digits_is_refused(demo: httpx.AsyncClient, start: str) -> None:
    response = await demo.get("/v1/usage", params={"start": start})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "start")
