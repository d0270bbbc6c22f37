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
        ({"classes_per_million_nano_usd": {"cached": 1}}, "classes_per_million_nano_usd.cached.[key]"),
        ({"classes_per_million_nano_usd": {"audio_input": -1}}, "classes_per_million_nano_usd.audio_input"),
    ],
)
async def test_an_invalid_price_is_refused(admin: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    good = {"price_key": "local/m", "input_per_million_nano_usd": 1, "output_per_million_nano_usd": 1}
    response = await admin.post("/admin/v1/prices", json=good | change)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_key_has_a_history_and_an_earlier_price_can_be_put_in_force_again(admin: httpx.AsyncClient) -> None:
    fields = {"price_key": "local/a/b", "output_per_million_nano_usd": 0}
    first = await created(admin, "prices", **fields, input_per_million_nano_usd=1, reason="the first")
    second = await created(admin, "prices", **fields, input_per_million_nano_usd=2, reason="dearer")

    listed = (await admin.get("/admin/v1/prices/local/a/b/versions")).json()
    page = (await admin.get("/admin/v1/prices/local/a/b/versions", params={"limit": 1})).json()
    older = (await admin.get("/admin/v1/prices/local/a/b/versions", params={"before": second["id"]})).json()
    back = await created(admin, "prices/local/a/b/rollback", id=first["id"], reason="too dear")

    assert [(one["id"], one["reason"]) for one in listed["data"]] == [
        (second["id"], "dearer"),
        (first["id"], "the first"),
    ]
    assert listed["data"][0]["before_input_per_million_nano_usd"] == 1
    assert listed["data"][1]["before_input_per_million_nano_usd"] is None
    assert all(one["author"] for one in listed["data"])
    assert (page["has_more"], [one["id"] for one in older["data"]]) == (True, [first["id"]])
    assert (back["input_per_million_nano_usd"], back["id"] != first["id"]) == (1, True)
    assert (await admin.get("/admin/v1/prices")).json()["data"] == [back]


async def test_classes_of_tokens_have_prices_of_their_own_and_come_back_with_an_earlier_price(
    admin: httpx.AsyncClient,
) -> None:
    fields = {"price_key": "local/a", "input_per_million_nano_usd": 3, "output_per_million_nano_usd": 15}
    classes = {"cached_input": 0, "cache_write_1h": 6_000_000_000}
    first = await created(admin, "prices", **fields, classes_per_million_nano_usd=classes)
    second = await created(admin, "prices", **fields)
    back = await created(admin, "prices/local/a/rollback", id=first["id"], reason="cheaper")

    assert first["classes_per_million_nano_usd"] == classes
    assert first["classes_per_million_usd"] == {"cached_input": "0", "cache_write_1h": "6"}
    assert second["classes_per_million_nano_usd"] == {}
    assert back["classes_per_million_nano_usd"] == classes
    versions = (await admin.get("/admin/v1/prices/local/a/versions")).json()["data"]
    assert [one["before_classes_per_million_nano_usd"] for one in versions] == [{}, classes, None]


async def test_a_price_that_the_key_never_had_is_not_put_in_force(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/admin/v1/prices/local/a/rollback", json={"id": "prc_1", "reason": "a test"})

    assert (response.status_code, response.json()["error"]["code"]) == (404, "price_not_found")
