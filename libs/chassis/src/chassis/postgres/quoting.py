"""Quoting for statements that take no parameters (on roles, schemas, databases)."""

from __future__ import annotations


def identifier(name: str) -> str:
    """Quote a name. Raises `ValueError` for one that Postgres does not allow."""
    if not name or "\0" in name or len(name.encode()) > 63:
        raise ValueError(f"not a name for Postgres: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a string. Raises `ValueError` for one that Postgres does not allow."""
    if "\0" in value:
        raise ValueError("a text for Postgres cannot hold a zero byte")
    escaped = value.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'"
