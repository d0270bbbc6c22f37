"""`python -m gateway apply` and `export`: the configuration as a file."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chassis.errors import ArgosyError, Kind
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from pydantic import SecretStr
from values.money import ClassPrices, NanoUsd, nano_usd_to_usd, usd_to_nano_usd
from values.roles import PLATFORM_ADMIN

from gateway.declaration.file import InvalidDeclaration, read_declaration, write_declaration
from gateway.declaration.schemas import (
    Declaration,
    DeclaredCredential,
    DeclaredPrice,
    DeclaredTenant,
    DeclaredUpstream,
)
from gateway.flags.orchestrator_client import FlagsClient
from gateway.flags.schemas import FlagDeclaration, FlagPut
from gateway.prices.metering_client import PricesClient
from gateway.prices.schemas import class_prices
from gateway.routes.orchestrator_client import RoutesClient
from gateway.routes.schemas import RouteDocument, RoutePut
from gateway.upstreams.orchestrator_client import UpstreamsClient
from gateway.upstreams.schemas import (
    SECRET_MAX_LENGTH,
    SECRET_MIN_LENGTH,
    CredentialCreate,
    UpstreamDocument,
    UpstreamPut,
)

APPLY_HELP: Final = "put upstreams, prices, routes and flags of a file in force; safe to repeat"
EXPORT_HELP: Final = "print the upstreams, prices, routes and flags in force as such a file; it has no secrets"

ANTHROPIC_VERSION: Final = "2023-06-01"
WAIT_SECONDS: Final = 60.0
AUTHOR: Final = "python -m gateway apply"
_UPSTREAM: Final = frozenset(UpstreamDocument.model_fields)
_ROUTE: Final = frozenset(RouteDocument.model_fields)
_FLAG: Final = frozenset(FlagDeclaration.model_fields)


@dataclass(frozen=True, slots=True)
class Clients:
    """What has the configuration."""

    upstreams: UpstreamsClient
    prices: PricesClient
    routes: RoutesClient
    flags: FlagsClient


class MissingSecret(ArgosyError, public=False):
    """The environment variable of a declared credential is not set."""

    kind, reason = Kind.INVALID, "MISSING_SECRET"


class InvalidSecret(ArgosyError, public=False):
    """The environment variable of a declared credential has what no credential can be."""

    kind, reason = Kind.INVALID, "INVALID_SECRET"


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="argosy.yaml; - is the input")
    parser.add_argument("--reason", default="declared by a file", help="for the log of changes")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would change")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="delete routes, flags and upstreams that the file does not declare; prices and credentials stay",
    )


async def run_apply(orchestrator: str, metering: str, signer: PrincipalSigner, arguments: argparse.Namespace) -> int:
    declaration = read_declaration(_read(arguments.file))
    async with _clients(orchestrator, metering, signer) as clients:
        apply = Apply(clients, arguments.reason, os.environ, dry_run=arguments.dry_run, write=sys.stdout.write)
        await apply.run(declaration, prune=arguments.prune)
    return 0


def _read(path: str) -> bytes:
    """Raises `InvalidDeclaration`."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InvalidDeclaration(f"{path} cannot be read: {error.strerror}") from error


async def run_export(orchestrator: str, metering: str, signer: PrincipalSigner) -> int:
    async with _clients(orchestrator, metering, signer) as clients:
        sys.stdout.write(write_declaration(await export(clients)))
    return 0


async def export(clients: Clients) -> Declaration:
    """Read what is in force. Credentials are left out: only their variables could be declared."""
    routes: dict[str, dict[str, RouteDocument]] = {}
    for route in (await clients.routes.list()).data:
        routes.setdefault(route.tenant_id, {})[route.model] = RouteDocument(**route.model_dump(include=set(_ROUTE)))
    return Declaration(
        upstreams={one.name: DeclaredUpstream(**_declared(one)) for one in (await clients.upstreams.list()).data},
        prices={one.price_key: _price(one) for one in (await clients.prices.list()).data},
        routes=routes.pop("*", {}),
        tenants={tenant_id: DeclaredTenant(routes=own) for tenant_id, own in routes.items()},
        flags={
            one.key: FlagDeclaration(**one.model_dump(include=set(_FLAG))) for one in (await clients.flags.list()).data
        },
    )


class Apply:
    """Puts objects in force in the order in which they need one another, and deletes in the opposite one.

    Each object is one change. What raises ends the run: what was changed before stays, and a repetition goes on.
    """

    def __init__(
        self,
        clients: Clients,
        reason: str,
        environ: Mapping[str, str],
        *,
        dry_run: bool,
        write: Callable[[str], object],
    ) -> None:
        self._clients = clients
        self._reason = reason
        self._environ = environ
        self._dry_run = dry_run
        self._write = write
        self.changes = 0

    async def run(self, wanted: Declaration, *, prune: bool) -> None:
        """Raises what the API raises, `MissingSecret`, `InvalidSecret`."""
        secrets = self._secrets(wanted)
        now = await export(self._clients)
        await self._upstreams(wanted, now)
        await self._credentials(wanted, secrets)
        await self._prices(wanted, now)
        await self._routes(wanted, now)
        await self._flags(wanted, now)
        if prune:
            await self._prune(wanted, now)
        self._write(f"{self.changes} changes{' would be made' if self._dry_run else ''}\n")

    def _secrets(self, wanted: Declaration) -> dict[str, str]:
        """Read and check all before anything is changed."""
        names = {one.secret_env for upstream in wanted.upstreams.values() for one in upstream.credentials}
        missing = sorted(name for name in names if not self._environ.get(name))
        if missing:
            raise MissingSecret(f"not set, and named by a credential: {', '.join(missing)}")
        least, most = SECRET_MIN_LENGTH, SECRET_MAX_LENGTH
        wrong = sorted(name for name in names if not least <= len(self._environ[name]) <= most)
        if wrong:
            raise InvalidSecret(f"{', '.join(wrong)}: a credential has {least} to {most} characters")
        return {name: self._environ[name] for name in names}

    async def _upstreams(self, wanted: Declaration, now: Declaration) -> None:
        for name, declared in wanted.upstreams.items():
            document = declared.model_dump(exclude={"credentials"}, exclude_unset=True)
            known = now.upstreams.get(name)
            if known is not None and _comparable(known) == _comparable(declared):
                continue
            body = UpstreamPut(**document, reason=self._reason)
            await self._change(f"upstream {name}", known is None, lambda: self._clients.upstreams.put(name, body))  # noqa: B023

    async def _credentials(self, wanted: Declaration, secrets: Mapping[str, str]) -> None:
        for name, declared in wanted.upstreams.items():
            if not declared.credentials:
                continue
            labels = await self._labels(name)
            for one in declared.credentials:
                if (one.tenant_id, one.label) not in labels:
                    await self._add_credential(name, one, secrets[one.secret_env])

    async def _labels(self, upstream: str) -> set[tuple[str, str]]:
        try:
            found = await self._clients.upstreams.credentials(upstream, "")
        except ArgosyError as error:
            # In a dry run the upstream was not made.
            if self._dry_run and error.reason == "UPSTREAM_NOT_FOUND":
                return set()
            raise
        return {(one.tenant_id, one.label) for one in found.data}

    async def _add_credential(self, upstream: str, declared: DeclaredCredential, secret: str) -> None:
        body = CredentialCreate(
            reason=self._reason,
            secret=SecretStr(secret),
            tenant_id=declared.tenant_id,
            label=declared.label,
            weight=declared.weight,
        )
        what = f"credential {declared.label} of {upstream} for {declared.tenant_id}"
        await self._change(what, True, lambda: self._clients.upstreams.add_credential(upstream, body))

    async def _prices(self, wanted: Declaration, now: Declaration) -> None:
        for key, price in wanted.prices.items():
            read, written, classes = _amounts(price)
            known = now.prices.get(key)
            if known is not None and _amounts(known) == (read, written, classes):
                continue
            write = lambda: self._clients.prices.set(key, read, written, self._reason, classes)  # noqa: B023, E731
            await self._change(f"price {key}", known is None, write)

    async def _routes(self, wanted: Declaration, now: Declaration) -> None:
        in_force = now.all_routes()
        for (tenant_id, model), route in wanted.all_routes().items():
            if in_force.get((tenant_id, model)) == route:
                continue
            document = route.model_dump(exclude_unset=True)
            body = RoutePut(**document, tenant_id=tenant_id, reason=self._reason)
            new = (tenant_id, model) not in in_force
            await self._change(f"route {model} of {tenant_id}", new, lambda: self._clients.routes.put(model, body))  # noqa: B023

    async def _flags(self, wanted: Declaration, now: Declaration) -> None:
        for key, flag in wanted.flags.items():
            if now.flags.get(key) == flag:
                continue
            body = FlagPut(**flag.model_dump(), reason=self._reason)
            await self._change(f"flag {key}", key not in now.flags, lambda: self._clients.flags.put(key, body))  # noqa: B023

    async def _prune(self, wanted: Declaration, now: Declaration) -> None:
        clients = self._clients
        for key in now.flags.keys() - wanted.flags.keys():
            await self._delete(f"flag {key}", lambda: clients.flags.delete(key, self._reason))  # noqa: B023
        for owner, model in now.all_routes().keys() - wanted.all_routes().keys():
            write = lambda: clients.routes.delete(model, owner, self._reason)  # noqa: B023, E731
            await self._delete(f"route {model} of {owner}", write)
        for name in now.upstreams.keys() - wanted.upstreams.keys():
            await self._delete(f"upstream {name}", lambda: clients.upstreams.delete(name, self._reason))  # noqa: B023

    async def _change(self, what: str, new: bool, write: Callable[[], Any]) -> None:
        await self._make(f"{'+' if new else '~'} {what}", write)

    async def _delete(self, what: str, write: Callable[[], Any]) -> None:
        await self._make(f"- {what}", write)

    async def _make(self, line: str, write: Callable[[], Any]) -> None:
        self.changes += 1
        if not self._dry_run:
            await write()
        self._write(f"{line}\n")


@asynccontextmanager
async def _clients(orchestrator: str, metering: str, signer: PrincipalSigner) -> AsyncIterator[Clients]:
    principal = Principal("platform", user_id=AUTHOR, roles=frozenset({PLATFORM_ADMIN}))
    async with Channel(orchestrator, "orchestrator") as first, Channel(metering, "metering") as second:
        # After an installation the services may still be starting.
        for channel in (first, second):
            await channel.await_ready(WAIT_SECONDS)
        with as_caller(Caller(principal, signer.sign(principal), new_id("req_"))):
            yield Clients(UpstreamsClient(first), PricesClient(second), RoutesClient(first), FlagsClient(first))


def _declared(upstream: Any) -> dict[str, Any]:
    """What a kind does not have is null, and has its default in the document."""
    fields: dict[str, Any] = upstream.model_dump(include=set(_UPSTREAM))
    return {name: value for name, value in fields.items() if value is not None or name == "encoding"}


def _comparable(upstream: DeclaredUpstream) -> dict[str, Any]:
    """The document with the default of its kind, which the schema leaves to the orchestrator."""
    document = upstream.model_dump(exclude={"credentials"})
    if upstream.kind == "anthropic" and upstream.version_header is None:
        document["version_header"] = ANTHROPIC_VERSION
    return document


def _price(price: Any) -> DeclaredPrice:
    return DeclaredPrice(
        input_per_million_usd=nano_usd_to_usd(price.input_per_million_nano_usd),
        output_per_million_usd=nano_usd_to_usd(price.output_per_million_nano_usd),
        classes_per_million_usd=price.classes_per_million_usd,
    )


def _amounts(price: DeclaredPrice) -> tuple[NanoUsd, NanoUsd, ClassPrices | None]:
    classes = {name: usd_to_nano_usd(amount) for name, amount in price.classes_per_million_usd.items()}
    read, written = usd_to_nano_usd(price.input_per_million_usd), usd_to_nano_usd(price.output_per_million_usd)
    return read, written, class_prices(classes)
