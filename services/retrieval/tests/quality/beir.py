"""Data sets in BEIR's format: `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv` in one folder.

Also what people have of it: each file with `.gz`, ids that are numbers, texts or titles that are missing or null, and
judgements in TREC's form (query, iteration, document, grade), with or without a header, at `qrels/test.tsv`,
`qrels/test.txt`, `qrels.tsv` or `qrels.txt`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.search.model import MAX_QUERY_CHARACTERS

QRELS = ("qrels/test.tsv", "qrels/test.txt", "qrels.tsv", "qrels.txt")
BOM = "\ufeff"


class InvalidDataset(Exception):
    """The folder has no data set of this format; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents and queries by id. `grades` are those of the documents that answer a query, from 1 up.

    Queries without such a document are left out: no ranking of theirs is better than another. `notes` say what else was
    left out, and what was counted although it cannot be found.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()


def load_beir(folder: Path) -> Dataset:
    """Read a data set. A title comes before its text. Raises InvalidDataset.

    A document that answers a query and is not in the corpus counts as not found, as trec_eval counts it.
    """
    documents = {
        _identifier(row, place): f"{_text(row, 'title', place)}\n\n{_text(row, 'text', place)}".strip()
        for place, row in _rows(_found(folder, "corpus.jsonl"))
    }
    queries = {_identifier(row, place): _query(row, place) for place, row in _rows(_found(folder, "queries.jsonl"))}
    grades: dict[str, dict[str, int]] = {}
    unknown = missing = 0
    for query, document, grade in _judgements(_found(folder, *QRELS)):
        if query not in queries:
            unknown += 1
        elif grade > 0:
            missing += document not in documents
            grades.setdefault(query, {})[document] = grade
    refused = [query for query in grades if not _is_allowed(queries[query])]
    known = {query: answers for query, answers in grades.items() if query not in refused}
    if not any(answers.keys() & documents.keys() for answers in known.values()):
        raise InvalidDataset(f"{folder}: no judgement is of a query and a document that are here")
    notes = (
        (unknown, "judgements are of queries that are not here"),
        (missing, "documents that answer a query are not in the corpus, and count as not found"),
        (len(refused), f"queries are empty or have more than {MAX_QUERY_CHARACTERS} characters, and are left out"),
    )
    counted = tuple(f"{count} {what}" for count, what in notes if count)
    return Dataset(documents, {query: queries[query] for query in known}, known, counted)


def _is_allowed(query: str) -> bool:
    """Whether the service searches for it."""
    return bool(query.strip()) and "\0" not in query and len(query) <= MAX_QUERY_CHARACTERS


def _found(folder: Path, *names: str) -> Path:
    """The first of the files that is there, or the first of them, which is then missing."""
    paths = [folder / f"{name}{ending}" for name in names for ending in ("", ".gz")]
    return next((path for path in paths if path.is_file()), paths[0])


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidDataset(f"{place}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InvalidDataset(f"{place}: not a JSON object")
        yield place, row


def _judgements(path: Path) -> Iterator[tuple[str, str, int]]:
    """Rows of query, document and grade; TREC's have a column between the first two."""
    for number, (place, line) in enumerate(_lines(path)):
        columns = line.split()
        grade = _number(columns[-1])
        if number == 0 and grade is None:
            continue  # The names of the columns.
        if grade is None or len(columns) not in {3, 4}:
            raise InvalidDataset(f"{place}: not a query, a document and a grade")
        yield columns[0], columns[-2], grade


def _number(text: str) -> int | None:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8").removeprefix(BOM)
    except (OSError, EOFError) as error:
        raise InvalidDataset(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{path}: not UTF-8 at byte {error.start}") from error
    # Not splitlines: it splits at characters that JSON allows within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.rstrip("\r")


def _identifier(row: dict[str, Any], place: str) -> str:
    value = row.get("_id", row.get("id"))
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise InvalidDataset(f"{place}: '_id' is missing, or not a text")
    return str(value)


def _query(row: dict[str, Any], place: str) -> str:
    if "text" not in row:
        raise InvalidDataset(f"{place}: 'text' is missing, or not a text")
    return _text(row, "text", place)


def _text(row: dict[str, Any], name: str, place: str) -> str:
    """Empty where it is missing or null: some documents have a title alone."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidDataset(f"{place}: {name!r} is not a text")
    return value or ""
