"""A file is put in force once, in an order that works, and written out as the same."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from argosy.metering.v1.metering_pb2_grpc import add_MeteringServiceServicer_to_server
from argosy.orchestration.v1.flags_pb2_grpc import add_FlagServiceServicer_to_server
from argosy.orchestration.v1.routes_pb2_grpc import add_RouteServiceServicer_to_server
from argosy.orchestration.v1.upstreams_pb2_grpc import add_UpstreamServiceServicer_to_server
from chassis.tenancy import Principal, as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from gateway.declaration.cli import Apply, Clients, InvalidSecret, MissingSecret, export
from gateway.declaration.file import read_declaration, write_declaration
from gateway.declaration.schemas import Declaration
from gateway.flags.orchestrator_client import FlagsClient
from gateway.prices.metering_client import PricesClient
from gateway.routes.orchestrator_client import RoutesClient
from gateway.routes.schemas import RouteCachePolicy
from gateway.upstreams.orchestrator_client import UpstreamsClient

from services.gateway.tests.fakes.flags import FakeFlags
from services.gateway.tests.fakes.metering import FakeMetering
from services.gateway.tests.fakes.routes import FakeRoutes
from services.gateway.tests.fakes.upstreams import FakeUpstreams
from services.gateway.tests.unit.declaration.test_file import FILE

ADMIN = Principal("platform", user_id="usr_1", roles=frozenset({"platform_admin"}))
SECRET = "sk-canary-d41d8cd98f00b204"
ALL = """\
+ upstream openai
+ credential main of openai for *
+ price openai/gpt
+ route gpt of *
+ route gpt of ten_1
+ flag model.gpt
6 changes
"""


class Services:
    """The fakes, and the clients of them."""

    def __init__(self) -> None:
        self.upstreams, self.routes, self.flags, self.metering = (
            FakeUpstreams(),
            FakeRoutes(),
            FakeFlags(),
            FakeMetering(),
        )
        self.printed = ""
        self.clients: Clients

    async def apply(self, declaration: Declaration, *, prune: bool = False, dry_run: bool = False) -> str:
        """Return what was printed."""
        lines: list[str] = []
        environ = {"OPENAI_API_KEY": SECRET}
        await Apply(self.clients, "a file", environ, dry_run=dry_run, write=lines.append).run(declaration, prune=prune)
        return "".join(lines)


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    made, package = Services(), "argosy.orchestration.v1"
    with as_caller(a_caller(ADMIN)):
        async with serving(
            (add_UpstreamServiceServicer_to_server, made.upstreams, f"{package}.UpstreamService"),
            (add_RouteServiceServicer_to_server, made.routes, f"{package}.RouteService"),
            (add_FlagServiceServicer_to_server, made.flags, f"{package}.FlagService"),
            (add_MeteringServiceServicer_to_server, made.metering, "argosy.metering.v1.MeteringService"),
        ) as channel:
            made.clients = Clients(
                UpstreamsClient(channel), PricesClient(channel), RoutesClient(channel), FlagsClient(channel)
            )
            yield made


async def test_a_file_is_put_in_force_once(services: Services) -> None:
    wanted = read_declaration(FILE)

    first, again = await services.apply(wanted), await services.apply(wanted)

    assert first == ALL
    assert again == "0 changes\n"
    assert services.upstreams.secrets == {"crd_1": SECRET}
    assert SECRET not in first
    assert [request.reason for request in services.routes.put] == ["a file", "a file"]


async def test_what_is_exported_is_what_was_applied_without_secrets(services: Services) -> None:
    wanted = read_declaration(FILE)
    await services.apply(wanted)

    text = write_declaration(await export(services.clients))

    assert SECRET not in text
    del wanted.upstreams["openai"].credentials[:]
    assert read_declaration(text.encode()) == wanted
    assert await services.apply(read_declaration(text.encode()), prune=True) == "0 changes\n"


async def test_a_dry_run_says_the_same_and_changes_nothing(services: Services) -> None:
    printed = await services.apply(read_declaration(FILE), dry_run=True)

    assert printed == ALL.replace("6 changes", "6 changes would be made")
    assert not services.upstreams.documents
    assert not services.routes.put
    assert not services.metering.prices


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda one: setattr(one.upstreams["openai"], "max_connections", 3), "~ upstream openai"),
        (lambda one: setattr(one.prices["openai/gpt"], "input_per_million_usd", "2"), "~ price openai/gpt"),
        (lambda one: setattr(one.routes["gpt"], "sticky", True), "~ route gpt of *"),
        (lambda one: setattr(one.routes["gpt"], "cache", RouteCachePolicy(disabled=True)), "~ route gpt of *"),
        (lambda one: setattr(one.flags["model.gpt"], "default_variant", "off"), "~ flag model.gpt"),
        (lambda one: setattr(one.upstreams["openai"].credentials[0], "label", "b"), "+ credential b of openai for *"),
    ],
)
async def test_only_what_differs_is_changed(services: Services, change: Any, line: str) -> None:
    await services.apply(read_declaration(FILE))
    wanted = read_declaration(FILE)
    change(wanted)

    assert await services.apply(wanted) == f"{line}\n1 changes\n"
    assert await services.apply(wanted) == "0 changes\n"


async def test_what_the_file_does_not_declare_is_only_deleted_when_asked(services: Services) -> None:
    await services.apply(read_declaration(FILE))

    kept = await services.apply(Declaration())
    pruned = await services.apply(Declaration(), prune=True)

    assert kept == "0 changes\n"
    assert pruned.splitlines()[0] == "- flag model.gpt"
    assert pruned.splitlines()[-2:] == ["- upstream openai", "4 changes"]
    assert not services.routes.routes
    assert services.metering.prices


async def test_without_a_secret_nothing_is_changed(services: Services) -> None:
    with pytest.raises(MissingSecret, match="OPENAI_API_KEY"):
        await Apply(services.clients, "a file", {}, dry_run=False, write=lambda _: None).run(
            read_declaration(FILE), prune=False
        )

    assert not services.upstreams.documents


async def test_a_secret_that_no_credential_can_have_is_named_before_anything_is_changed(services: Services) -> None:
    with pytest.raises(InvalidSecret, match="OPENAI_API_KEY"):
        await Apply(services.clients, "a file", {"OPENAI_API_KEY": "sk-1"}, dry_run=False, write=lambda _: None).run(
            read_declaration(FILE), prune=False
        )

    assert not services.upstreams.documents


async def test_an_upstream_of_anthropic_with_its_default_version_is_not_changed_again(services: Services) -> None:
    wanted = read_declaration(b"upstreams: {claude: {kind: anthropic, base_url: 'https://api.anthropic.com'}}")
    await services.apply(wanted)
    services.upstreams.documents["claude"]["version"] = "2023-06-01"

    assert await services.apply(wanted) == "0 changes\n"
