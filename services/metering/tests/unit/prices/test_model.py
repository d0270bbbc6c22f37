import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from metering.prices.model import ALL_TENANTS, PriceCache, PriceRow, UnpricedModel, discounted
from metering.prices.set_price import set_price
from values.money import MAX_PRICE, NanoUsd, Price

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import FakePriceBook, FakePriceChanges, FakePubSub

TTL = timedelta(seconds=5)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(clock: FakeClock) -> FakePriceBook:
    return FakePriceBook(clock, [a_price("local/a"), a_price("local/b")])


@pytest.fixture
def prices(book: FakePriceBook, clock: FakeClock) -> PriceCache:
    return PriceCache(book, clock, TTL)


async def test_prices_come_in_the_order_of_their_keys(prices: PriceCache) -> None:
    found = await prices.find("ten_a", ["local/b", "local/a", "local/b"])
    assert [price.price.key for price in found] == ["local/b", "local/a", "local/b"]


async def test_a_key_without_a_price_is_refused(prices: PriceCache) -> None:
    with pytest.raises(UnpricedModel, match="local/c"):
        await prices.find("ten_a", ["local/a", "local/c"])


async def test_a_tenant_s_own_price_overrides_that_of_all_tenants(prices: PriceCache, book: FakePriceBook) -> None:
    own = replace(a_price("local/a"), tenant_id="ten_a")
    book.rows.append(own)

    assert await prices.find("ten_a", ["local/a"]) == [own]
    assert (await prices.find("ten_b", ["local/a"]))[0].tenant_id == ALL_TENANTS
    assert [price.price.version for price in await prices.current("ten_a")] == [
        own.price.version,
        book.rows[1].price.version,
    ]


async def test_a_price_of_one_tenant_is_no_price_for_another(prices: PriceCache, book: FakePriceBook) -> None:
    book.rows.append(replace(a_price("local/secret"), tenant_id="ten_a"))

    assert await prices.find("ten_a", ["local/secret"])
    with pytest.raises(UnpricedModel):
        await prices.find("ten_b", ["local/secret"])
    assert "local/secret" not in [price.price.key for price in await prices.current("ten_b")]


async def test_concurrent_callers_read_the_book_once_per_ttl(
    prices: PriceCache, book: FakePriceBook, clock: FakeClock
) -> None:
    await asyncio.gather(*(prices.find(f"ten_{number}", ["local/a"]) for number in range(20)))
    assert book.loads == 1

    clock.advance(TTL)
    await asyncio.gather(*(prices.find("ten_a", ["local/a"]) for _ in range(20)))
    assert book.loads == 2


async def test_a_new_price_of_another_replica_is_seen_after_the_ttl(
    prices: PriceCache, book: FakePriceBook, clock: FakeClock
) -> None:
    (before,) = await prices.find("ten_a", ["local/a"])
    newer = await book.add("local/a", NanoUsd(7), NanoUsd(7))

    assert await prices.find("ten_a", ["local/a"]) == [before]
    clock.advance(TTL)
    assert await prices.find("ten_a", ["local/a"]) == [newer]


async def test_a_miss_reads_the_book_again_but_not_every_time(
    prices: PriceCache, book: FakePriceBook, clock: FakeClock
) -> None:
    await prices.find("ten_a", ["local/a"])
    await book.add("local/new", NanoUsd(7), NanoUsd(7))
    clock.advance(timedelta(seconds=1))
    assert (await prices.find("ten_a", ["local/new"]))[0].price.input_per_million == 7

    for _ in range(10):
        with pytest.raises(UnpricedModel):
            await prices.find("ten_a", ["local/none"])
    assert book.loads == 2


async def test_a_price_added_here_is_in_force_at_once(prices: PriceCache, clock: FakeClock) -> None:
    await prices.find("ten_a", ["local/a"])
    price = await prices.add("local/a", NanoUsd(9), NanoUsd(0))
    assert await prices.find("ten_a", ["local/a"]) == [price]


async def test_a_price_added_here_while_the_book_is_being_read_is_in_force_at_once(
    prices: PriceCache, book: FakePriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on, read = asyncio.Event(), asyncio.Event(), book.in_force

    async def slowly() -> Sequence[PriceRow]:
        found = await read()
        reading.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(book, "in_force", slowly)
    finding = asyncio.create_task(prices.find("ten_a", ["local/a"]))
    await reading.wait()
    putting = asyncio.create_task(prices.add("local/a", NanoUsd(9), NanoUsd(0)))
    await asyncio.sleep(0)
    go_on.set()
    await finding
    assert await prices.find("ten_a", ["local/a"]) == [await putting]


async def test_a_new_price_of_another_replica_is_seen_after_an_invalidation(
    prices: PriceCache, book: FakePriceBook
) -> None:
    await prices.find("ten_a", ["local/a"])
    newer = await book.add("local/a", NanoUsd(7), NanoUsd(7))
    prices.invalidate()

    assert await prices.find("ten_a", ["local/a"]) == [newer]
    assert await prices.find("ten_a", ["local/a"]) == [newer]
    assert book.loads == 2


async def test_a_call_after_an_invalidation_gets_no_price_that_was_read_before_it(
    prices: PriceCache, book: FakePriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on, read = asyncio.Event(), asyncio.Event(), book.in_force

    async def slowly() -> Sequence[PriceRow]:
        found = await read()
        reading.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(book, "in_force", slowly)
    before = asyncio.create_task(prices.find("ten_a", ["local/a"]))
    await reading.wait()
    newer = await book.add("local/a", NanoUsd(7), NanoUsd(7))
    prices.invalidate()
    after = asyncio.create_task(prices.find("ten_a", ["local/a"]))
    await asyncio.sleep(0)
    go_on.set()

    assert await after == [newer]
    assert await before != [newer]


async def test_a_price_that_is_refused_is_not_published(prices: PriceCache) -> None:
    changes = FakePriceChanges(FakePubSub(), prices.invalidate)
    with pytest.raises(InvalidRequest):
        await set_price("local", NanoUsd(1), NanoUsd(1), prices=prices, publisher=changes)
    assert changes.pub_sub.published == []


async def test_a_price_of_the_future_is_not_in_force_yet(
    prices: PriceCache, book: FakePriceBook, clock: FakeClock
) -> None:
    coming = replace(a_price("local/a"), effective_at=clock.now() + TTL)
    book.rows.append(coming)

    assert (await prices.find("ten_a", ["local/a"]))[0] != coming
    clock.advance(TTL)
    assert await prices.find("ten_a", ["local/a"]) == [coming]


async def test_versions_are_cached_and_unknown_ones_left_out(prices: PriceCache, book: FakePriceBook) -> None:
    price = book.rows[0]
    assert await prices.by_version([price.price.version, "prc_none"]) == {price.price.version: price}
    book.rows.clear()
    assert await prices.by_version([price.price.version]) == {price.price.version: price}


async def test_a_cached_version_is_found_though_the_cache_is_cleared_meanwhile(
    prices: PriceCache, book: FakePriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, missing = book.rows[0], await book.add("local/a", NanoUsd(7), NanoUsd(7))
    await prices.by_version([known.price.version])
    monkeypatch.setattr("metering.prices.model.MAX_CACHED_VERSIONS", 1)
    read = book.by_version

    async def slowly(versions: Collection[str]) -> Sequence[PriceRow]:
        rows = await read(versions)
        monkeypatch.setattr(book, "by_version", read)
        for version in (book.rows[1].price.version, "prc_none"):  # other events; the last of them clears the cache
            await prices.by_version([version])
        return rows

    monkeypatch.setattr(book, "by_version", slowly)

    assert await prices.by_version([known.price.version, missing.price.version]) == {
        known.price.version: known,
        missing.price.version: missing,
    }


@pytest.mark.parametrize("key", ["", "local", "local/", "/model", "local/\n", "local/" + "m" * 300])
async def test_a_price_key_reads_upstream_slash_model(prices: PriceCache, key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await set_price(key, NanoUsd(1), NanoUsd(1), prices=prices, publisher=None)
    assert refused.value.param == "price.price_key"


@pytest.mark.parametrize("amount", [-1, MAX_PRICE + 1])
async def test_a_negative_or_absurd_price_is_refused(prices: PriceCache, amount: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await set_price("local/a", NanoUsd(amount), NanoUsd(1), prices=prices, publisher=None)
    assert refused.value.param == "price.input_per_million"
    with pytest.raises(InvalidRequest) as refused:
        await set_price("local/a", NanoUsd(1), NanoUsd(amount), prices=prices, publisher=None)
    assert refused.value.param == "price.output_per_million"


async def test_a_discounted_version_is_found_by_the_row_that_it_names(prices: PriceCache, book: FakePriceBook) -> None:
    (row,) = await prices.find("ten_a", ["local/a"])
    half = discounted(row, 50)
    found = await prices.by_version({row.price.version, half.price.version, "prc_unknown~50", "prc_unknown"})

    assert found == {row.price.version: row, half.price.version: half}
    assert half.price.version == f"{row.price.version}~50"
    assert half.price.input_per_million * 2 == row.price.input_per_million


@pytest.mark.parametrize(("percent", "expected"), [(0, 3), (1, 3), (33, 3), (34, 2), (50, 2), (99, 1)])
def test_a_discounted_price_is_rounded_up_and_never_free(percent: int, expected: int) -> None:
    price = Price("local/a", "prc_1", NanoUsd(3), NanoUsd(0))
    less = discounted(PriceRow(price, a_price().effective_at), percent).price
    assert (less.input_per_million, less.output_per_million) == (expected, 0)
