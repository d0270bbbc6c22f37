"""Separated values: comma, semicolon, tab or bar."""

import csv
from collections.abc import Iterator
from itertools import chain, islice
from typing import BinaryIO

from retrieval.parsing import plain
from retrieval.parsing.blocks import coalesce
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning
from retrieval.parsing.table_rows import rows_to_texts
from retrieval.parsing.text_encoding import find_encoding

DELIMITERS = ",;\t|"
SAMPLE_LINES = 50
MAX_FIELD_CHARACTERS = 16 * 1024 * 1024


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """A line for each row, with the names of its columns."""
    encoding = find_encoding(document)
    yield from encoding.warnings
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    lines = (line for piece in plain.pieces(document, encoding.codec) for line in piece.splitlines(keepends=True))
    head = list(islice(lines, SAMPLE_LINES))
    head[:1] = [line.removeprefix("\ufeff") for line in head[:1]]
    reader = csv.reader(chain(_without_hint(head), lines), delimiter=_delimiter(head), strict=False)
    yield from coalesce(0, rows_to_texts([" ".join(value.split()) for value in row] for row in reader))


def _delimiter(head: list[str]) -> str:
    """The hint that spreadsheets write in the first line, else what the lines have most often and equally often."""
    if head and head[0].lower().startswith("sep=") and len(head[0].strip()) == 5:
        return head[0][4]
    rows = [_outside_quotes(line) for line in head if line.strip()]
    counts = {sign: [row.count(sign) for row in rows] for sign in DELIMITERS}
    return max(DELIMITERS, key=lambda sign: (min(counts[sign], default=0), sum(counts[sign])))


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _without_hint(head: list[str]) -> list[str]:
    return head[1:] if head and head[0].lower().startswith("sep=") and len(head[0].strip()) == 5 else head
