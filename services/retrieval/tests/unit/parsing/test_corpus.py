"""A corpus of small documents, one for each trap of its format: all text that a reader sees, in order, and no other."""

from __future__ import annotations

import io

import pytest
from retrieval.parsing.formats import read
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, FileWarning, UnindexableFile

from services.retrieval.tests.corpus import office, pdf, records, text, web, word
from services.retrieval.tests.corpus.samples import Sample

CORPUS = [*word.SAMPLES, *web.SAMPLES, *text.SAMPLES, *pdf.SAMPLES, *office.SAMPLES, *records.SAMPLES]


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: f"{sample.filename}: {sample.name}")
def test_a_document_is_read_as_its_reader_sees_it(sample: Sample) -> None:
    found = list(read(io.BytesIO(sample.content), sample.filename, Limits()))

    shown = "".join(item.text for item in found if isinstance(item, Block))
    assert " ".join(shown.split()) == sample.text
    assert {item.code for item in found if isinstance(item, FileWarning)} == sample.warnings
    assert all(item.message for item in found if isinstance(item, FileWarning))


@pytest.mark.parametrize(
    ("filename", "content", "reason"),
    [
        # Bytes of no encoding, two letters that fit many, and Russian capitals that fit Thai as well.
        ("a.txt", bytes(range(128, 256)) * 8, "unknown_encoding"),
        ("a.txt", b"\xe9 \xe8", "unknown_encoding"),
        ("a.md", "ПРИКАЗ".encode("cp866"), "unknown_encoding"),
        ("a.pdf", pdf.a_pdf_with(pdf.MEANINGLESS, font=pdf.NAMELESS), "unreadable_fonts"),
        ("a.pdf", pdf.a_pdf_with(pdf.MEANINGLESS, font=pdf.GLYPH_NUMBERS), "unreadable_fonts"),
        ("a.eml", records.ENCRYPTED_MAIL, "encrypted_file"),
        ("a.epub", records.PROTECTED, "encrypted_file"),
        ("a.json", b'{"a": 1', "file_type_mismatch"),
        ("a.jsonl", b'{"a": 1}\n{"b"\n', "file_type_mismatch"),
        ("a.eml", b"Just a letter\n\nwithout headers", "file_type_mismatch"),
        ("a.xlsx", records.a_book(), "file_type_mismatch"),
        ("a.pptx", office.a_workbook(), "file_type_mismatch"),
    ],
    ids=[
        "no encoding",
        "two letters",
        "cp866",
        "glyphs without names",
        "glyph numbers",
        "encrypted mail",
        "protected book",
        "broken JSON",
        "broken line of JSON",
        "no mail",
        "no workbook",
        "no presentation",
    ],
)
def test_what_cannot_be_read_fails_with_its_own_reason(filename: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnindexableFile) as refused:
        list(read(io.BytesIO(content), filename, Limits()))

    assert refused.value.code == reason


def test_no_word_is_read_of_a_text_whose_end_is_in_no_encoding() -> None:
    content = ("Договор поставки. " * 20_000).encode() + bytes(range(128, 256)) * 4_000

    with pytest.raises(UnindexableFile):
        next(read(io.BytesIO(content), "a.txt", Limits()))
