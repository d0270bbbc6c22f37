"""Names and literals for the few statements that take no parameters (roles, schemas, databases)."""

from __future__ import annotations


def identifier(name: str) -> str:
    """Quote a name for SQL. Raises `ValueError` for one that Postgres cannot hold."""
    if not name or "\0" in name or len(name.encode()) > 63:
        raise ValueError(f"not a name for Postgres: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a text for SQL. Raises `ValueError` for one that Postgres cannot hold."""
    if "\0" in value:
        raise ValueError("a text for Postgres cannot hold a zero byte")
    escaped = value.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'"
