"""Migrations expand first and contract later: the version before still runs while, and after, a new file is applied.

A statement that takes something away needs a comment before it that begins with `-- contract:` and says since which
release nothing uses it. One that holds a lock for as long as a table is large needs `-- locks:` and the reason why that
is short. A table that the same file creates is free of both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.house_lint.source import Violation

PREDATE = {
    "gateway/migrations/0002_roles.sql": "a constraint on a table in use",
    "gateway/migrations/0003_audit_outcome.sql": "drops a default",
    "metering/migrations/0003_attempts_and_exposure.sql": "indexes and constraints on tables in use",
    "metering/migrations/0004_budget_limits.sql": "drops a function whose place another one takes in the same start",
    "orchestrator/migrations/0002_outbox_requests.sql": "an index on a table in use",
    "orchestrator/migrations/0005_batches.sql": "indexes on a table in use",
    "orchestrator/migrations/0006_suspects.sql": "constraints on a table in use",
    "retrieval/migrations/0002_plans.sql": "a function is replaced",
}
"""Files that are older than this rule. Their checksums are in databases, so they cannot be edited."""

TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|;|[^-/'$;]+|.", re.DOTALL)
CREATED = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([\w.\"]+)")
ALTERED = re.compile(r"^ALTER TABLE (?:IF EXISTS )?(?:ONLY )?([\w.\"]+) (.*)$")
INDEXED = re.compile(r"^CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?.*?\bON (?:ONLY )?([\w.\"]+)")
DROPPED = re.compile(r"^DROP (TABLE|VIEW|MATERIALIZED VIEW|FUNCTION|PROCEDURE|SCHEMA|TYPE|SEQUENCE) ")

CONTRACT = "; the version before still runs: see `-- contract:` in scripts/house_lint/migrations.py"
LOCKS = "; writers wait meanwhile: see `-- locks:` in scripts/house_lint/migrations.py"

CONTRACTIONS = (
    (r"DROP (?!CONSTRAINT|EXPRESSION)(COLUMN )?", "drops a column"),
    (r"RENAME ", "renames"),
    (r"ALTER (COLUMN )?\S+ SET NOT NULL", "requires a column that the version before may leave out"),
    (r"ALTER (COLUMN )?\S+ DROP DEFAULT", "drops a default that the version before may rely on"),
    (r"ALTER (COLUMN )?\S+ (SET DATA )?TYPE ", "changes the type of a column"),
    (
        r"ADD (COLUMN )?(?!.* (DEFAULT|GENERATED) )(?!CONSTRAINT |CHECK|UNIQUE|FOREIGN|PRIMARY|EXCLUDE).* NOT NULL",
        "adds a column that the version before does not write, NOT NULL and without DEFAULT",
    ),
)
LONG_LOCKS = (
    (r"ADD (CONSTRAINT |CHECK|UNIQUE|FOREIGN|PRIMARY|EXCLUDE)(?!.* NOT VALID)", "checks all rows for a constraint"),
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in capitals and without strings, its first line, and the comments in and before it."""

    line: int
    code: str
    comments: str


def migrations_expand_first(path: str, sql: str) -> Iterator[Violation]:
    """Yield what a numbered migration takes away, or locks for long, without saying why it may."""
    if "/migrations/" not in path or "/functions/" in path or any(path.endswith(file) for file in PREDATE):
        return
    found = list(statements(sql))
    created = {match[1] for one in found if (match := CREATED.match(one.code))}
    for one in found:
        for mark, message in _problems(one.code, created):
            if not mark or not re.search(rf"-- {mark}: \S", one.comments):
                yield Violation(one.line, message)


def statements(sql: str) -> Iterator[Statement]:
    """Split a file at its semicolons, but for those in strings, bodies and comments."""
    line, begun, code, comments = 1, 0, "", ""
    for match in TOKEN.finditer(sql):
        token = match[0]
        if token == ";":
            yield Statement(begun, " ".join(code.upper().split()), comments)
            begun, code, comments = 0, "", ""
        elif token.startswith(("--", "/*")):
            comments += f"{token}\n"
        else:
            code += "''" if token.startswith(("'", "$")) and len(token) > 1 else token
            if not begun and token.strip():
                begun = line + token[: len(token) - len(token.lstrip())].count("\n")
        line += token.count("\n")
    if code.strip():
        yield Statement(begun, " ".join(code.upper().split()), comments)


def _problems(code: str, created: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the mark that a statement needs, if one helps, and what is wrong without it."""
    if match := DROPPED.match(code):
        yield "contract", f"drops a {match[1].lower()}{CONTRACT}"
    if (match := INDEXED.match(code)) and match[1]:
        yield "", "CONCURRENTLY cannot run in a migration: a file is one transaction"
    elif match and match[2] not in created:
        yield "locks", f"builds an index on a table in use{LOCKS}"
    match = ALTERED.match(code)
    if match and match[1] not in created:
        for action in _actions(match[2]):
            yield from (("contract", f"{text}{CONTRACT}") for sign, text in CONTRACTIONS if re.match(sign, action))
            yield from (("locks", f"{text}{LOCKS}") for sign, text in LONG_LOCKS if re.match(sign, action))


def _actions(text: str) -> Iterator[str]:
    """Split the actions of ALTER TABLE at the commas outside of parentheses."""
    depth, action = 0, ""
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            yield action.strip()
            action = ""
        else:
            action += letter
    yield action.strip()
