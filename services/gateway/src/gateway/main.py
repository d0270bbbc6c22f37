"""The gateway, put together."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from chassis.clock import SystemClock
from chassis.errors import ArgosyError
from chassis.grpc import Channel, GrpcServer
from chassis.http import HttpServer
from chassis.lifecycle import Check, Command, Component, Service, command_line
from chassis.postgres import Database
from chassis.redis import MultiplexedRedis, Redis
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalSigner, PrincipalVerifier

from gateway.adapters.metering import GrpcAccounts
from gateway.adapters.orchestrator import GrpcInference
from gateway.adapters.postgres import PostgresDirectory
from gateway.adapters.rates import RedisRateLimits
from gateway.adapters.redis import RedisRevocations
from gateway.adapters.retrieval import GrpcKnowledge
from gateway.api.app import Allowances, create_app
from gateway.api.door import Door
from gateway.api.identity import IdentityServicer, registration
from gateway.api.ports import Ports
from gateway.domain.administration import ADMIN, DEMO, MEMBER, PLATFORM, Administration, Bootstrap
from gateway.domain.buckets import Buckets
from gateway.domain.keys import mint_key
from gateway.domain.limits import Limits
from gateway.domain.principals import Admission, Trust
from gateway.domain.rates import Limiter, RateLimits, Rates
from gateway.settings import KeysSection, LimitsSection, PlanRates, RatesSection, Settings

ISSUER = "gateway"
MIGRATIONS = Path(__file__).parent / "migrations"
MINT_KEY = "mint-key"


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open clients and yield what runs; the public server starts last and stops first."""
    clock = SystemClock()
    secrets = [secret.get_secret_value() for secret in settings.principal.secrets]
    async with (
        Database(settings.postgres, "gateway") as database,
        Redis(settings.redis) as redis,
        MultiplexedRedis(settings.redis) as hot_redis,
        Channel(settings.peers.orchestrator, "orchestrator") as orchestrator,
        Channel(settings.peers.metering, "metering") as metering,
        Channel(settings.peers.retrieval, "retrieval") as retrieval,
    ):
        directory = PostgresDirectory(database)
        admission = Admission(directory, clock, trust_of(settings.keys))
        revocations = RedisRevocations(redis, clock, forget=admission.forget, hear=admission.hear)
        ports = Ports(
            inference=GrpcInference(orchestrator),
            knowledge=GrpcKnowledge(retrieval),
            accounts=GrpcAccounts(metering),
            directory=directory,
            administration=Administration(directory, revocations, clock, env=settings.keys.env),
            clock=clock,
            upload_bytes=settings.limits.upload_bytes,
        )
        door = Door(admission, PrincipalSigner(secrets[0], ISSUER, clock))
        limiter = limiter_of(settings.rates, RedisRateLimits(hot_redis), Buckets(clock))
        app = create_app(ports, door, limiter, allowances_of(settings.limits))
        identity = registration(IdentityServicer(directory))
        yield [
            Check("postgres", database.ping),
            *revocations.components(),
            GrpcServer(settings.grpc.bind, [identity], PrincipalVerifier(secrets, clock), clock),
            HttpServer(app, settings.http.host, settings.http.port),
        ]


def trust_of(keys: KeysSection) -> Trust:
    """For how long memory is believed."""
    return Trust(
        heard=keys.heard,
        unheard=keys.unheard,
        stale=keys.stale,
        refused=keys.refused,
        capacity=keys.capacity,
        look_up=keys.look_up,
    )


def limiter_of(rates: RatesSection, shared: RateLimits, local: RateLimits) -> Limiter:
    """How many requests a minute are let in."""

    def read(plan: PlanRates) -> Rates:
        return Rates(key=plan.key, tenant=plan.tenant)

    return Limiter(
        {name: read(plan) for name, plan in rates.plans.items()},
        read(rates.default),
        shared=shared,
        local=local,
        replicas=rates.replicas,
    )


def allowances_of(limits: LimitsSection) -> Allowances:
    """How much a request may take."""
    return Allowances(
        chat_bytes=limits.chat_bytes,
        json_bytes=limits.json_bytes,
        deadline=limits.deadline,
        limits=Limits(output_tokens=limits.output_tokens, messages=limits.messages, choices=limits.choices),
    )


async def bootstrap(settings: Settings, _: argparse.Namespace) -> int:
    """Make sure that the first tenants and keys exist; each key comes from a variable of its own."""
    wanted = (("ARGOSY_ADMIN_KEY", PLATFORM, {ADMIN, MEMBER}), ("ARGOSY_API_KEY", DEMO, {MEMBER}))
    async with Database(settings.postgres, "gateway") as database:
        first = Bootstrap(PostgresDirectory(database), SystemClock())
        for variable, tenant, roles in wanted:
            text = os.environ.get(variable)
            if not text:
                sys.stderr.write(f"{variable} is not set; make a key with `python -m gateway {MINT_KEY}`.\n")
                return 1
            try:
                key = await first.ensure(tenant, text, roles)
            except ArgosyError as error:
                sys.stderr.write(f"{variable}: {error.message}\n")
                return 1
            sys.stdout.write(f"tenant {tenant} is {key.tenant_id}, its key is {key.key_id}\n")
    return 0


def print_key(arguments: Sequence[str]) -> int:
    """Print a new key. It works before there are any settings, because some of them are keys."""
    parser = argparse.ArgumentParser(prog=f"python -m gateway {MINT_KEY}", description=print_key.__doc__)
    parser.add_argument("--env", default="dev", help="marks the key: argosy_<env>_…")
    try:
        _, text = mint_key(parser.parse_args(arguments).env)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"{text}\n")
    return 0


def main() -> NoReturn:
    """Run the command line."""
    if sys.argv[1:2] == [MINT_KEY]:
        sys.exit(print_key(sys.argv[2:]))
    command_line(
        Service(
            name="gateway",
            settings=Settings,
            build=build,
            schema="identity",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={"bootstrap": Command("make sure that the first tenants and keys exist", bootstrap)},
            description=f"The edge: REST, SSE, authentication and keys. Also: {MINT_KEY}, which prints a new key.",
        )
    )
