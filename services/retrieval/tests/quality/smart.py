"""Converts a collection of the SMART project (CACM, CISI, Cranfield, MED, NPL and others) to BEIR's format.

`python -m services.retrieval.tests.quality.smart DOCUMENTS QUERIES JUDGEMENTS FOLDER`

Documents and queries are records of `.I number`, with a title after `.T` and a text after `.W`, or records of NPL: a
number, the text, and a line with `/`. Judgements begin with the query and the document, or have a column between them
that is 0 in every row, as TREC's. Each document that is listed answers its query, but for those with a negative grade
(Cranfield: of no interest). Cranfield's judgements name queries by their place: `--queries-by-place`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_FIELD = re.compile(r"^\.([A-Z])\s*(.*)$")


def read_records(text: str) -> Iterator[dict[str, str]]:
    """Records with the fields `title` and `text`, in order."""
    if re.search(r"^\.I", text, re.MULTILINE) is None:
        yield from _npl_records(text)
        return
    fields: dict[str, list[str]] | None = None
    current: list[str] = []
    for line in text.splitlines():
        marker = _FIELD.match(line)
        if marker is None:
            current.append(line.strip())
        elif marker[1] == "I":
            if fields is not None:
                yield _to_record(fields)
            fields, current = {"I": [marker[2].strip()]}, []
        elif fields is not None:
            current = fields.setdefault(marker[1], [])
    if fields is not None:
        yield _to_record(fields)


def _npl_records(text: str) -> Iterator[dict[str, str]]:
    for record in re.split(r"^\s*/\s*$", text, flags=re.MULTILINE):
        number, _, words = record.strip().partition("\n")
        if number.strip().isdigit():
            yield {"_id": number.strip(), "title": "", "text": " ".join(words.split())}


def _to_record(fields: Mapping[str, list[str]]) -> dict[str, str]:
    title, text = (" ".join(fields.get(name, [])).strip() for name in "TW")
    # Cranfield's abstracts begin with their title.
    return {"_id": fields["I"][0], "title": "" if title and text.startswith(title) else title, "text": text}


def read_judgements(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of a query and a document that answers it."""
    if re.search(r"^\s*/\s*$", text, re.MULTILINE):
        for record in _npl_records(text):
            yield from ((record["_id"], document) for document in record["text"].split())
        return
    rows = [line.split() for line in text.splitlines() if line.strip()]
    column = 2 if all(len(row) > 3 and row[1] == "0" for row in rows) else 1
    answers = (row for row in rows if not "".join(row[column + 1 : column + 2]).startswith("-"))
    yield from ((str(int(row[0])), row[column]) for row in answers)


def convert(documents: str, queries: str, judgements: str, folder: Path, *, queries_by_place: bool = False) -> None:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "corpus.jsonl", map(json.dumps, read_records(documents)))
    numbered = (
        {**record, "_id": str(place if queries_by_place else int(record["_id"]))}
        for place, record in enumerate(read_records(queries), start=1)
    )
    _write_lines(folder / "queries.jsonl", map(json.dumps, numbered))
    rows = (f"{query}\t{document}\t1" for query, document in read_judgements(judgements))
    _write_lines(folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *rows])


def _write_lines(path: Path, lines: Iterator[str] | list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("documents", "queries", "judgements", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--queries-by-place", action="store_true")
    given = parser.parse_args()
    documents, queries, judgements = (
        path.read_text("utf-8", errors="replace") for path in (given.documents, given.queries, given.judgements)
    )
    convert(documents, queries, judgements, given.folder, queries_by_place=given.queries_by_place)


if __name__ == "__main__":
    main()
