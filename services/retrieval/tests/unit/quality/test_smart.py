"""Collections of the SMART project."""

from __future__ import annotations

from pathlib import Path

from services.retrieval.tests.quality.beir import load_beir
from services.retrieval.tests.quality.smart import convert, read_judgements

DOCUMENTS = """.I 1
.T
Wings
.A
Ann Author
.W
They lift.
All of them.
.X
1\t5\t1
.I 2
.W
Keels.
"""
NPL_DOCUMENTS = """
1
they lift
all of them
   /
2
keels
   /
   /
"""


def test_records_with_fields_become_titles_and_texts_without_authors_and_references(tmp_path: Path) -> None:
    convert(DOCUMENTS, ".I 1\n.W\nwhat lifts\n", "     1     1\t0\t0.000000\n", tmp_path)

    dataset = load_beir(tmp_path)

    assert dataset.documents == {"1": "Wings\n\nThey lift. All of them.", "2": "Keels."}
    assert dataset.queries == {"1": "what lifts"}
    assert dataset.grades == {"1": {"1": 1}}


def test_records_of_npl_are_read(tmp_path: Path) -> None:
    convert(NPL_DOCUMENTS, "1\nWHAT LIFTS\n/\n", "1\n    1    2\n   /\n", tmp_path)

    dataset = load_beir(tmp_path)

    assert dataset.documents == {"1": "they lift all of them", "2": "keels"}
    assert dataset.grades == {"1": {"1": 1, "2": 1}}


def test_queries_are_numbered_by_their_place_where_judgements_name_them_so(tmp_path: Path) -> None:
    queries = ".I 001\n.W\nwhat lifts\n.I 004\n.W\nwhat sinks\n"
    convert(DOCUMENTS, queries, "2 2 3\n", tmp_path, queries_by_place=True)

    assert load_beir(tmp_path).queries == {"2": "what sinks"}


def test_a_column_of_zeros_between_query_and_document_is_left_out() -> None:
    assert list(read_judgements("1 0 13 1\n1 0 14 1\n")) == [("1", "13"), ("1", "14")]
    assert list(read_judgements("01 13 1\n")) == [("1", "13")]


def test_documents_of_no_interest_answer_nothing() -> None:
    assert list(read_judgements("1 184 2\n1 29 -1\n1 31\n")) == [("1", "184"), ("1", "31")]
