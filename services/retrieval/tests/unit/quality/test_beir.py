"""Data sets in BEIR's format."""

from __future__ import annotations

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
        ("queries.jsonl", '{"_id": "q1"}', "queries.jsonl:1: 'text' is missing"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1 1", "test.tsv:2: not a query"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td9\t1", "there is no query 'q1' or no document 'd9'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text, "utf-8")

    with pytest.raises(InvalidDataset, match=message):
        load_beir(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"corpus\.jsonl: No such file"):
        load_beir(tmp_path)


def test_the_small_set_has_an_answer_for_each_query() -> None:
    dataset = load_beir(SMALL)

    assert (len(dataset.documents), len(dataset.queries)) == (28, 18)
