"""Data sets in BEIR's format: `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv` in one folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class InvalidDataset(Exception):
    """The folder has no data set of this format; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents and queries by id. `grades` are those of the documents that answer a query, from 1 up.

    Queries without such a document are left out: no ranking of theirs is better than another.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]


def load_beir(folder: Path) -> Dataset:
    """Read a data set. A title comes before its text. Raises InvalidDataset."""
    documents = {
        _field(row, "_id", place): f"{row.get('title') or ''}\n\n{_field(row, 'text', place)}".strip()
        for place, row in _rows(folder / "corpus.jsonl")
    }
    queries = {_field(row, "_id", place): _field(row, "text", place) for place, row in _rows(folder / "queries.jsonl")}
    grades: dict[str, dict[str, int]] = {}
    for place, (query, document, grade) in _judgements(folder / "qrels" / "test.tsv"):
        if query not in queries or document not in documents:
            raise InvalidDataset(f"{place}: there is no query {query!r} or no document {document!r}")
        if grade > 0:
            grades.setdefault(query, {})[document] = grade
    return Dataset(documents, {query: queries[query] for query in grades}, grades)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidDataset(f"{place}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InvalidDataset(f"{place}: not a JSON object")
        yield place, row


def _judgements(path: Path) -> Iterator[tuple[str, tuple[str, str, int]]]:
    """Rows of query, document and grade; the first line names the columns."""
    for place, line in list(_lines(path))[1:]:
        columns = line.split("\t")
        try:
            query, document, grade = columns
            yield place, (query, document, int(grade))
        except ValueError as error:
            raise InvalidDataset(f"{place}: not a query, a document and a grade, separated by tabs") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidDataset(f"{path}: {error.strerror}") from error
    # Not splitlines: it splits at characters that JSON allows within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.rstrip("\r")


def _field(row: dict[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise InvalidDataset(f"{place}: {name!r} is missing, or not a text")
    return value
