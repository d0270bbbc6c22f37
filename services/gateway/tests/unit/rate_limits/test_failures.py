"""Failed authentications are limited per address, before the database is asked."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from chassis.testing import FakeClock
from gateway.auth.address import client_address
from gateway.auth.api_key import mint_key
from gateway.rate_limits.failures import FailedAuthenticationLimiter, TooManyFailedAuthentications, network_of

from services.gateway.tests.fakes.gateway import GatewayFixture, run_gateway

MODELS = "/v1/models"


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayFixture]:
    """Three failures a minute for an address."""
    async with run_gateway(failed_authentications=3) as gateway:
        yield gateway


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_guesses_beyond_the_limit_do_not_reach_the_database(
    anonymous: httpx.AsyncClient, gateway: GatewayFixture
) -> None:
    before = gateway.identity.lookups
    responses = [await anonymous.get(MODELS, headers=bearer(mint_key("test")[1])) for _ in range(5)]

    assert [response.status_code for response in responses] == [401, 401, 401, 429, 429]
    assert responses[-1].json()["error"]["code"] == "too_many_failed_authentications"
    assert responses[-1].headers["retry-after"] == "20"
    assert gateway.identity.lookups == before + 3


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}])
async def test_requests_without_a_usable_key_count_too(anonymous: httpx.AsyncClient, headers: dict[str, str]) -> None:
    responses = [await anonymous.get(MODELS, headers=headers) for _ in range(4)]

    assert [response.status_code for response in responses] == [401, 401, 401, 429]


async def test_a_key_that_was_valid_is_not_locked_out_by_its_neighbours(
    demo: httpx.AsyncClient, anonymous: httpx.AsyncClient, gateway: GatewayFixture
) -> None:
    assert (await demo.get(MODELS)).status_code == 200
    for _ in range(4):
        await anonymous.get(MODELS)

    gateway.clock.advance(timedelta(seconds=40))  # the cached key has to be looked up again
    for _ in range(4):
        await anonymous.get(MODELS)
    assert (await demo.get(MODELS)).status_code == 200


async def test_valid_keys_use_nothing_up(gateway: GatewayFixture) -> None:
    for tenant in ("demo", "other"):
        async with gateway.client(tenant) as client:
            for _ in range(5):
                assert (await client.get(MODELS)).status_code == 200
                gateway.clock.advance(timedelta(hours=2))


async def test_a_database_that_does_not_answer_uses_nothing_up(
    demo: httpx.AsyncClient, gateway: GatewayFixture
) -> None:
    gateway.identity.down = True
    assert {(await demo.get(MODELS)).status_code for _ in range(5)} == {503}


def test_addresses_have_buckets_of_their_own_and_ipv6_networks_one() -> None:
    limiter = FailedAuthenticationLimiter(FakeClock(), per_minute=1)
    limiter.take("192.0.2.1")
    limiter.take("192.0.2.2")
    limiter.take("2001:db8::1")
    for address in ("192.0.2.1", "2001:db8::2"):
        with pytest.raises(TooManyFailedAuthentications):
            limiter.take(address)
    limiter.take("2001:db8:0:1::1")


@pytest.mark.parametrize(("text", "network"), [("::1%lo", "::/64"), ("not:an:address", "not:an:address"), ("", "")])
def test_odd_addresses_are_kept(text: str, network: str) -> None:
    assert network_of(text) == network


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ([b"6.6.6.6"], 0, "10.0.0.1"),
        ([b"6.6.6.6, 1.2.3.4"], 1, "1.2.3.4"),
        ([b"6.6.6.6, 1.2.3.4, 10.1.1.1"], 2, "1.2.3.4"),
        ([b"6.6.6.6", b"1.2.3.4"], 1, "1.2.3.4"),
        ([b"1.2.3.4"], 2, "10.0.0.1"),
        ([], 1, "10.0.0.1"),
    ],
)
def test_the_address_is_the_one_that_our_outermost_proxy_saw(
    forwarded: list[bytes], proxies: int, address: str
) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value) for value in forwarded)]

    assert client_address("10.0.0.1", headers, proxies) == address
