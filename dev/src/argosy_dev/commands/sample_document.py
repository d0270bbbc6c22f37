"""Sets `guide.md` as a PDF of several pages: the document that the demo asks about."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF

SOURCE = Path(__file__).with_name("guide.md")
FILENAME = "argosy-guide.pdf"


class _Book(FPDF):
    """A4, with page numbers."""

    def footer(self) -> None:
        """Called by fpdf2 at the end of each page."""
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 10, str(self.page_no()), align="C")


def render(text: str) -> bytes:
    """Set headings and paragraphs of Markdown; nothing else of it is understood."""
    book = _Book()
    book.set_title("The Argosy Guide")
    book.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))  # the same text gives the same bytes
    book.set_auto_page_break(auto=True, margin=20)
    book.set_margins(25, 20)
    book.add_page()
    for block in text.split("\n\n"):
        mark, _, rest = block.strip().partition(" ")
        if mark == "#":
            _write(book, rest, size=24, style="B", after=4)
        elif mark == "##":
            _write(book, rest, size=15, style="B", after=2)
        elif block.strip():
            _write(book, block.strip(), size=11, style="", after=3)
    return bytes(book.output())


def _write(book: FPDF, text: str, *, size: int, style: str, after: float) -> None:
    book.set_font("Times" if not style else "Helvetica", style=style, size=size)
    book.multi_cell(0, size * 0.5, text, new_x="LMARGIN", new_y="NEXT")
    book.ln(after)


def pdf() -> bytes:
    """The guide, ready to upload."""
    return render(SOURCE.read_text(encoding="utf-8"))
