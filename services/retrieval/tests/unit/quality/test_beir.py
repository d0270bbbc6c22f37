"""Data sets in BEIR's format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from services.retrieval.tests import quality
from services.retrieval.tests.quality.beir import InvalidDataset, load_beir

SMALL = Path(next(iter(quality.__path__))) / "small"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "Wings", "text": "They lift.\u2028All."}\n{"_id": "d2", "text": "Keels."}\n', "utf-8"
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "lift"}\n\n{"_id": "q2", "text": "none"}\n', "utf-8")
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t0\n", "utf-8"
    )
    return tmp_path


def test_titles_come_before_their_text_and_queries_without_an_answer_are_left_out(folder: Path) -> None:
    dataset = load_beir(folder)

    assert dataset.documents == {"d1": "Wings\n\nThey lift.\u2028All.", "d2": "Keels."}
    assert dataset.queries == {"q1": "lift"}
    assert dataset.grades == {"q1": {"d1": 2}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.jsonl", "{", "corpus.jsonl:1: not JSON"),
        ("corpus.jsonl", "[]", "corpus.jsonl:1: not a JSON object"),
        ("corpus.jsonl", '{"title": "Wings"}', "corpus.jsonl:1: '_id' is missing"),
        ("corpus.jsonl", '{"_id": "d1", "text": ["Wings"]}', "corpus.jsonl:1: 'text' is not a text"),
        ("queries.jsonl", '{"_id": "q1"}', "queries.jsonl:1: 'text' is missing"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1", "test.tsv:2: not a query"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1 yes", "test.tsv:2: not a query"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td9\t1\nq9\td1\t1", "no judgement is of a query and"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text, "utf-8")

    with pytest.raises(InvalidDataset, match=message):
        load_beir(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"corpus\.jsonl: No such file"):
        load_beir(tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        "q1\td1\t2\n",
        "q1 0 d1 2\nq1 0 d2 0\n",
        "q1\t 0 d1\t2\r\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t2.0\n",
    ],
    ids=["without-header", "trec", "trec-with-tabs", "grades-with-a-point"],
)
@pytest.mark.parametrize("name", ["qrels/test.tsv", "qrels/test.txt", "qrels.tsv", "qrels.txt"])
def test_judgements_are_read_in_the_forms_that_people_have(folder: Path, name: str, lines: str) -> None:
    (folder / "qrels" / "test.tsv").unlink()
    (folder / name).write_text(lines, "utf-8")

    assert load_beir(folder).grades == {"q1": {"d1": 2}}


def test_compressed_files_byte_order_marks_numbers_as_ids_and_titles_without_a_text_are_read(folder: Path) -> None:
    rows = '\ufeff{"_id": 1, "title": "Wings", "text": null}\n{"id": "2", "title": null, "text": "Keels."}\n'
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "qrels" / "test.tsv").unlink()
    (folder / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(b"q1 0 1 1\n"))

    dataset = load_beir(folder)

    assert dataset.documents == {"1": "Wings", "2": "Keels."}
    assert dataset.grades == {"q1": {"1": 1}}


def test_an_answer_that_is_not_in_the_corpus_counts_as_not_found_and_is_said(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("q1 0 d1 1\nq1 0 d9 1\nq9 0 d1 1\n", "utf-8")

    dataset = load_beir(folder)

    assert dataset.grades == {"q1": {"d1": 1, "d9": 1}}
    assert dataset.notes == (
        "1 judgements are of queries that are not here",
        "1 documents that answer a query are not in the corpus, and count as not found",
    )


def test_queries_that_the_service_refuses_are_left_out_and_said(folder: Path) -> None:
    rows = [{"_id": "q1", "text": "lift"}, {"_id": "q2", "text": " "}, {"_id": "q3", "text": "x" * 9000}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (folder / "qrels" / "test.tsv").write_text("q1 0 d1 1\nq2 0 d1 1\nq3 0 d2 1\n", "utf-8")

    dataset = load_beir(folder)

    assert dataset.queries == {"q1": "lift"}
    assert dataset.notes == ("2 queries are empty or have more than 8192 characters, and are left out",)


def test_a_file_that_is_not_compressed_as_its_name_says_is_named(folder: Path) -> None:
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_text("{}", "utf-8")

    with pytest.raises(InvalidDataset, match=r"corpus\.jsonl\.gz: Not a gzipped file"):
        load_beir(folder)


def test_the_small_set_has_an_answer_for_each_query() -> None:
    dataset = load_beir(SMALL)

    assert (len(dataset.documents), len(dataset.queries)) == (28, 18)
