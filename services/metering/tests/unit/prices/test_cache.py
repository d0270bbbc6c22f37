import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from metering.domain.money import MAX_PRICE, NanoUsd
from metering.domain.prices import EVERYBODY, Price, Prices, UnpricedModel, set_price

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import Air, FakeNews, FakePriceBook

TTL = timedelta(seconds=5)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(clock: FakeClock) -> FakePriceBook:
    return FakePriceBook(clock, [a_price("local/a"), a_price("local/b")])


@pytest.fixture
def prices(book: FakePriceBook, clock: FakeClock) -> Prices:
    return Prices(book, clock, TTL)


async def test_prices_come_in_the_order_of_their_keys(prices: Prices) -> None:
    found = await prices.find("ten_a", ["local/b", "local/a", "local/b"])
    assert [price.price_key for price in found] == ["local/b", "local/a", "local/b"]


async def test_a_key_without_a_price_is_refused(prices: Prices) -> None:
    with pytest.raises(UnpricedModel, match="local/c"):
        await prices.find("ten_a", ["local/a", "local/c"])


async def test_a_tenant_s_own_price_goes_before_everybody_s(prices: Prices, book: FakePriceBook) -> None:
    own = replace(a_price("local/a"), tenant_id="ten_a")
    book.rows.append(own)

    assert await prices.find("ten_a", ["local/a"]) == [own]
    assert (await prices.find("ten_b", ["local/a"]))[0].tenant_id == EVERYBODY
    assert [price.version for price in await prices.current("ten_a")] == [own.version, book.rows[1].version]


async def test_a_price_of_one_tenant_is_no_price_for_another(prices: Prices, book: FakePriceBook) -> None:
    book.rows.append(replace(a_price("local/secret"), tenant_id="ten_a"))

    assert await prices.find("ten_a", ["local/secret"])
    with pytest.raises(UnpricedModel):
        await prices.find("ten_b", ["local/secret"])
    assert "local/secret" not in [price.price_key for price in await prices.current("ten_b")]


async def test_the_book_is_read_once_per_ttl_however_many_ask(
    prices: Prices, book: FakePriceBook, clock: FakeClock
) -> None:
    await asyncio.gather(*(prices.find(f"ten_{number}", ["local/a"]) for number in range(20)))
    assert book.loads == 1

    clock.advance(TTL)
    await asyncio.gather(*(prices.find("ten_a", ["local/a"]) for _ in range(20)))
    assert book.loads == 2


async def test_a_new_price_of_another_replica_is_seen_after_the_ttl(
    prices: Prices, book: FakePriceBook, clock: FakeClock
) -> None:
    (before,) = await prices.find("ten_a", ["local/a"])
    newer = await book.add("local/a", NanoUsd(7), NanoUsd(7))

    assert await prices.find("ten_a", ["local/a"]) == [before]
    clock.advance(TTL)
    assert await prices.find("ten_a", ["local/a"]) == [newer]


async def test_a_first_price_of_another_replica_is_looked_for_at_once_but_not_at_every_miss(
    prices: Prices, book: FakePriceBook, clock: FakeClock
) -> None:
    await prices.find("ten_a", ["local/a"])
    await book.add("local/new", NanoUsd(7), NanoUsd(7))
    clock.advance(timedelta(seconds=1))
    assert (await prices.find("ten_a", ["local/new"]))[0].input_per_million == 7

    for _ in range(10):
        with pytest.raises(UnpricedModel):
            await prices.find("ten_a", ["local/none"])
    assert book.loads == 2


async def test_a_price_put_here_holds_at_once(prices: Prices, clock: FakeClock) -> None:
    await prices.find("ten_a", ["local/a"])
    price = await prices.put("local/a", NanoUsd(9), NanoUsd(0))
    assert await prices.find("ten_a", ["local/a"]) == [price]


async def test_a_price_put_here_while_the_book_is_being_read_holds_at_once(
    prices: Prices, book: FakePriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on, read = asyncio.Event(), asyncio.Event(), book.in_force

    async def slowly() -> Sequence[Price]:
        found = await read()
        reading.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(book, "in_force", slowly)
    finding = asyncio.create_task(prices.find("ten_a", ["local/a"]))
    await reading.wait()
    putting = asyncio.create_task(prices.put("local/a", NanoUsd(9), NanoUsd(0)))
    await asyncio.sleep(0)
    go_on.set()
    await finding
    assert await prices.find("ten_a", ["local/a"]) == [await putting]


async def test_a_new_price_of_another_replica_is_seen_at_once_when_it_is_heard_of(
    prices: Prices, book: FakePriceBook
) -> None:
    await prices.find("ten_a", ["local/a"])
    newer = await book.add("local/a", NanoUsd(7), NanoUsd(7))
    prices.forget()

    assert await prices.find("ten_a", ["local/a"]) == [newer]
    assert await prices.find("ten_a", ["local/a"]) == [newer]
    assert book.loads == 2


async def test_who_asks_after_the_news_gets_no_price_that_was_read_before_it(
    prices: Prices, book: FakePriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on, read = asyncio.Event(), asyncio.Event(), book.in_force

    async def slowly() -> Sequence[Price]:
        found = await read()
        reading.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(book, "in_force", slowly)
    before = asyncio.create_task(prices.find("ten_a", ["local/a"]))
    await reading.wait()
    newer = await book.add("local/a", NanoUsd(7), NanoUsd(7))
    prices.forget()
    after = asyncio.create_task(prices.find("ten_a", ["local/a"]))
    await asyncio.sleep(0)
    go_on.set()

    assert await after == [newer]
    assert await before != [newer]


async def test_a_price_that_is_refused_is_no_news(prices: Prices) -> None:
    news = FakeNews(Air(), prices.forget)
    with pytest.raises(InvalidRequest):
        await set_price("local", NanoUsd(1), NanoUsd(1), prices=prices, news=news)
    assert news.air.told == []


async def test_a_price_of_the_future_does_not_hold_yet(prices: Prices, book: FakePriceBook, clock: FakeClock) -> None:
    coming = replace(a_price("local/a"), effective_at=clock.now() + TTL)
    book.rows.append(coming)

    assert (await prices.find("ten_a", ["local/a"]))[0] != coming
    clock.advance(TTL)
    assert await prices.find("ten_a", ["local/a"]) == [coming]


async def test_recorded_versions_are_remembered_and_unknown_ones_left_out(prices: Prices, book: FakePriceBook) -> None:
    price = book.rows[0]
    assert await prices.recorded([price.version, "prc_none"]) == {price.version: price}
    book.rows.clear()
    assert await prices.recorded([price.version]) == {price.version: price}


async def test_a_version_that_is_known_is_found_though_all_are_forgotten_meanwhile(
    prices: Prices, book: FakePriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, missing = book.rows[0], await book.add("local/a", NanoUsd(7), NanoUsd(7))
    await prices.recorded([known.version])
    monkeypatch.setattr("metering.domain.prices.MAX_RECORDED", 1)
    read = book.recorded

    async def slowly(versions: Collection[str]) -> Sequence[Price]:
        rows = await read(versions)
        monkeypatch.setattr(book, "recorded", read)
        for version in (book.rows[1].version, "prc_none"):  # other events; the last one finds that there are too many
            await prices.recorded([version])
        return rows

    monkeypatch.setattr(book, "recorded", slowly)

    assert await prices.recorded([known.version, missing.version]) == {known.version: known, missing.version: missing}


@pytest.mark.parametrize("key", ["", "local", "local/", "/model", "local/\n", "local/" + "m" * 300])
async def test_a_price_key_reads_upstream_slash_model(prices: Prices, key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await prices.put(key, NanoUsd(1), NanoUsd(1))
    assert refused.value.param == "price.price_key"


@pytest.mark.parametrize("amount", [-1, MAX_PRICE + 1])
async def test_a_negative_or_absurd_price_is_refused(prices: Prices, amount: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await prices.put("local/a", NanoUsd(amount), NanoUsd(1))
    assert refused.value.param == "price.input_per_million"
    with pytest.raises(InvalidRequest) as refused:
        await prices.put("local/a", NanoUsd(1), NanoUsd(amount))
    assert refused.value.param == "price.output_per_million"
