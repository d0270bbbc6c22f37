"""`python -m orchestrator route …`: operators set, list and remove routes."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from chassis.errors import InvalidRequest

from orchestrator.routing.check import check_route
from orchestrator.routing.choose import RouteStore
from orchestrator.routing.document import document_to_entry, entry_to_document
from orchestrator.routing.edit import (
    DEFAULT_OUTPUT_TOKENS,
    LIMIT_FIELDS,
    check_model_name,
    check_tenant,
    make_route_entry,
)
from orchestrator.routing.model import (
    ALL_TENANTS,
    ModelNotFound,
    Provider,
    RouteCandidate,
    RouteEntry,
    Task,
    UnknownFields,
)

HELP = "set, list and remove routes, as the schema's owner"

_HEADER = ("MODEL", "TENANT", "TASK", "CANDIDATES, TRIED IN THIS ORDER")


def add_route_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="<action>")
    put = commands.add_parser("set", help="create a route, or replace it")
    put.add_argument("name", help="the public model name")
    put.add_argument("candidates", nargs="+", metavar="upstream/model", help="upstream models, tried in this order")
    put.add_argument("--task", type=Task, choices=list(Task), default=Task.CHAT, help="what the model does (chat)")
    put.add_argument(
        "--max-output-tokens",
        type=int,
        metavar="N",
        help=f"the most that each candidate can write in one answer ({DEFAULT_OUTPUT_TOKENS})",
    )
    put.add_argument(
        "--limit-field", choices=LIMIT_FIELDS, help=f"the field in which they take that limit ({LIMIT_FIELDS[0]})"
    )
    put.add_argument(
        "--unknown-fields",
        type=UnknownFields,
        choices=list(UnknownFields),
        help="whether they get fields that are not known; pass is for upstreams that are yours (as in the settings)",
    )
    put.add_argument(
        "--provider",
        type=Provider,
        choices=list(Provider),
        help="whose fields, and whose token rules for images and sound, they have (the most expensive of all)",
    )
    put.add_argument("--tenant", default=ALL_TENANTS, help="for this tenant alone; overrides the public route")
    document = commands.add_parser("put", help="create a route from a JSON document: weights, conditions, fallbacks")
    document.add_argument("name", help="the public model name")
    document.add_argument("document", metavar="file", help="the document; - is the input")
    document.add_argument("--tenant", default=ALL_TENANTS, help="for this tenant alone; overrides the public route")
    shown = commands.add_parser("show", help="print a route as such a document")
    shown.add_argument("name", help="the public model name")
    shown.add_argument("--tenant", default=ALL_TENANTS, help="this tenant's own, not the public one")
    listed = commands.add_parser("list", help="show the routes")
    listed.add_argument("--tenant", help="only this tenant's own; * for the public ones")
    removed = commands.add_parser("remove", help="remove a route")
    removed.add_argument("name", help="the public model name")
    removed.add_argument("--tenant", default=ALL_TENANTS, help="this tenant's own, not the public one")


async def run_route_command(store: RouteStore, arguments: argparse.Namespace) -> str:
    """Run the action and return what to print.

    Raises `InvalidRequest` for invalid arguments, and what the store raises.
    """
    if arguments.action == "set":
        entry = make_route_entry(
            arguments.name,
            arguments.candidates,
            tenant_id=arguments.tenant,
            task=arguments.task,
            max_output_tokens=arguments.max_output_tokens,
            limit_field=arguments.limit_field,
            unknown_fields=arguments.unknown_fields,
            provider=arguments.provider,
        )
        await store.put(entry)
        return _table([entry])
    if arguments.action == "put":
        return await _put(store, arguments)
    if arguments.action == "show":
        return await _show(store, check_model_name(arguments.name), check_tenant(arguments.tenant))
    if arguments.action == "list":
        tenant_id = None if arguments.tenant is None else check_tenant(arguments.tenant)
        return _table(await store.entries(tenant_id))
    name, tenant_id = check_model_name(arguments.name), check_tenant(arguments.tenant)
    owner = "all tenants" if tenant_id == ALL_TENANTS else tenant_id
    if await store.remove(tenant_id, name):
        return f"removed the route {name} of {owner}\n"
    return f"there is no route {name} of {owner}\n"


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"The document cannot be read: {error.strerror}.", param="document") from error


async def _put(store: RouteStore, arguments: argparse.Namespace) -> str:
    try:
        document = orjson.loads(_read(arguments.document))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The document is not JSON: {error}.", param="document") from error
    entry = document_to_entry(arguments.tenant, arguments.name, document)
    check_route(entry, priced=None, upstreams=None)
    await store.put(entry)
    return _table([entry])


async def _show(store: RouteStore, name: str, tenant_id: str) -> str:
    for entry in await store.entries(tenant_id):
        if entry.model == name:
            return orjson.dumps(entry_to_document(entry), option=orjson.OPT_INDENT_2).decode() + "\n"
    raise ModelNotFound(f"There is no route {name} of {tenant_id}.", param="model")


def _table(entries: Sequence[RouteEntry]) -> str:
    if not entries:
        return "no routes\n"
    rows = [_HEADER, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def _row(entry: RouteEntry) -> tuple[str, str, str, str]:
    candidates = ", ".join(" ".join(_cells(candidate)) for candidate in entry.candidates)
    return entry.model, entry.tenant_id, entry.task, candidates or "none: the model is hidden from this tenant"


def _cells(candidate: RouteCandidate) -> Iterator[str]:
    yield candidate.price_key
    if candidate.max_output_tokens:
        options = [f"{candidate.limit_field} {candidate.max_output_tokens}"]
        if candidate.unknown_fields is not None:
            options.append(f"unknown fields {candidate.unknown_fields}")
        if candidate.provider is not None:
            options.append(f"provider {candidate.provider}")
        yield f"({', '.join(options)})"
