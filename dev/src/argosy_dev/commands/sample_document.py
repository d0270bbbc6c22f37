"""Renders `guide.md` as a PDF of several pages: the document of the demo."""

from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF

SOURCE = Path(__file__).with_name("guide.md")
FILENAME = "argosy-guide.pdf"


class _Document(FPDF):
    """A4, with page numbers."""

    def footer(self) -> None:
        """Called by fpdf2 at the end of each page."""
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 10, str(self.page_no()), align="C")


def render(text: str) -> bytes:
    """Render the headings and paragraphs of Markdown; no other syntax is supported."""
    document = _Document()
    document.set_title("The Argosy Guide")
    document.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))  # fixed, so that the bytes are reproducible
    document.set_auto_page_break(auto=True, margin=20)
    document.set_margins(25, 20)
    document.add_page()
    for block in text.split("\n\n"):
        mark, _, rest = block.strip().partition(" ")
        if mark == "#":
            _write(document, rest, size=24, style="B", after=4)
        elif mark == "##":
            _write(document, rest, size=15, style="B", after=2)
        elif block.strip():
            _write(document, block.strip(), size=11, style="", after=3)
    return bytes(document.output())


def _write(document: FPDF, text: str, *, size: int, style: str, after: float) -> None:
    document.set_font("Times" if not style else "Helvetica", style=style, size=size)
    document.multi_cell(0, size * 0.5, text, new_x="LMARGIN", new_y="NEXT")
    document.ln(after)


def pdf() -> bytes:
    return render(SOURCE.read_text(encoding="utf-8"))
