"""`python -m orchestrator route …`: the words of operators who change routes."""

import argparse
from collections.abc import Iterator, Sequence

from orchestrator.domain.ports import RouteEditor
from orchestrator.domain.route_entry import (
    DEFAULT_OUTPUT_TOKENS,
    LIMIT_FIELDS,
    RouteEntry,
    checked_name,
    checked_tenant,
    route_entry,
)
from orchestrator.domain.routes import EVERYBODY, RouteCandidate, Task

HELP = "set, list and remove routes, as the schema's owner"

_HEAD = ("MODEL", "TENANT", "TASK", "CANDIDATES, TRIED IN THIS ORDER")


def route_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="<verb>")
    put = verbs.add_parser("set", help="make a route, or put this one in its place")
    put.add_argument("name", help="the public model name")
    put.add_argument("candidates", nargs="+", metavar="upstream/model", help="who answers, tried in this order")
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
    put.add_argument("--tenant", default=EVERYBODY, help="for this tenant alone, in the place of everybody's")
    listed = verbs.add_parser("list", help="show the routes")
    listed.add_argument("--tenant", help="only this tenant's own; * for those of everybody")
    removed = verbs.add_parser("remove", help="take a route away")
    removed.add_argument("name", help="the public model name")
    removed.add_argument("--tenant", default=EVERYBODY, help="this tenant's own, not everybody's")


async def edit_routes(editor: RouteEditor, words: argparse.Namespace) -> str:
    """Do what was asked for and return what to print.

    Raises `InvalidRequest` for words that make no sense, and what the editor raises.
    """
    if words.verb == "set":
        entry = route_entry(
            words.name,
            words.candidates,
            tenant_id=words.tenant,
            task=words.task,
            max_output_tokens=words.max_output_tokens,
            limit_field=words.limit_field,
        )
        await editor.put(entry)
        return _table([entry])
    if words.verb == "list":
        return _table(await editor.entries(None if words.tenant is None else checked_tenant(words.tenant)))
    name, tenant_id = checked_name(words.name), checked_tenant(words.tenant)
    whose = "everybody" if tenant_id == EVERYBODY else tenant_id
    if await editor.remove(tenant_id, name):
        return f"removed the route {name} of {whose}\n"
    return f"there is no route {name} of {whose}\n"


def _table(entries: Sequence[RouteEntry]) -> str:
    if not entries:
        return "no routes\n"
    rows = [_HEAD, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def _row(entry: RouteEntry) -> tuple[str, str, str, str]:
    shown = ", ".join(" ".join(_words(candidate)) for candidate in entry.candidates)
    return entry.model, entry.tenant_id, entry.task, shown or "none: the model is hidden from this tenant"


def _words(candidate: RouteCandidate) -> Iterator[str]:
    yield f"{candidate.upstream}/{candidate.model}"
    if candidate.max_output_tokens:
        yield f"({candidate.limit_field} {candidate.max_output_tokens})"
