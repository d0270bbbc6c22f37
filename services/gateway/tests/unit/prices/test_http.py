"""`/admin/v1/prices`."""

from typing import Any

import httpx
import pytest

from services.gateway.tests.fakes.admin import created


async def test_a_price_is_put_in_force_and_an_explicit_zero_is_a_price(admin: httpx.AsyncClient) -> None:
    price = await created(
        admin,
        "prices",
        price_key="local/a/b",
        input_per_million_nano_usd=50_000_000,
        output_per_million_nano_usd=0,
    )

    assert (price["input_per_million_usd"], price["output_per_million_usd"]) == ("0.05", "0")
    listed = (await admin.get("/admin/v1/prices")).json()
    assert listed["data"] == [price]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"price_key": "nobody"}, "price_key"),
        ({"price_key": "a b/c"}, "price_key"),
        ({"input_per_million_nano_usd": -1}, "input_per_million_nano_usd"),
        ({"input_per_million_nano_usd": 1.5}, "input_per_million_nano_usd"),
        ({"input_per_million_nano_usd": "5"}, "input_per_million_nano_usd"),
        ({"output_per_million_nano_usd": 10**16}, "output_per_million_nano_usd"),
    ],
)
async def test_an_invalid_price_is_refused(admin: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    good = {"price_key": "local/m", "input_per_million_nano_usd": 1, "output_per_million_nano_usd": 1}
    response = await admin.post("/admin/v1/prices", json=good | change)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
