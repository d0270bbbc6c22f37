"""Workbooks and presentations."""

from __future__ import annotations

import datetime as dt
import io

import openpyxl

from services.retrieval.tests.corpus.samples import Sample, zipped

RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMES = f'xmlns:a="urn:a" xmlns:p="urn:p" xmlns:r="{KIND}" xmlns:mc="urn:mc"'


def a_workbook() -> bytes:
    workbook = openpyxl.Workbook()
    prices = workbook.active
    assert prices is not None
    prices.title = "Prices"
    prices.append(["Price list"])
    prices.append([])
    prices.append(["Part", "Price", "Tax", "From", "Code", "Sold"])
    prices.append(["Quillstone 7", 0.1 + 0.2, 0.19, dt.date(2026, 3, 1), 42, True])
    prices["C4"].number_format = "0%"
    prices["E4"].number_format = "00000"
    hidden = workbook.create_sheet("Hidden")
    hidden.append(["secret"])
    hidden.sheet_state = "hidden"
    late = workbook.create_sheet("Späte Blätter")
    late.append(["Größe", "Ort"])
    late.append([None, "Kiel"])
    late.append([12, None])
    target = io.BytesIO()
    workbook.save(target)
    return target.getvalue()


def a_workbook_with_a_formula() -> bytes:
    """Written by a program that does not calculate."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.append([12, 30, "=A1+B1"])
    target = io.BytesIO()
    workbook.save(target)
    return target.getvalue()


def relationships(*items: tuple[str, str, str]) -> str:
    found = "".join(
        f'<Relationship Id="{name}" Type="{KIND}/{kind}" Target="{target}"/>' for name, kind, target in items
    )
    return f'<Relationships xmlns="{RELATIONS}">{found}</Relationships>'


def shape(text: str, y: int | None = None, x: int = 0, placeholder: str = "") -> str:
    place = f'<a:xfrm><a:off x="{x}" y="{y}"/></a:xfrm>' if y is not None else ""
    kind = f'<p:ph type="{placeholder}"/>' if placeholder else ""
    paragraphs = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text.split("|"))
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="1" name="x"/><p:nvPr>{kind}</p:nvPr></p:nvSpPr><p:spPr>{place}</p:spPr>'
        f"<p:txBody>{paragraphs}</p:txBody></p:sp>"
    )


def slide(*shapes: str, attributes: str = "") -> str:
    return f"<p:sld {NAMES} {attributes}><p:cSld><p:spTree>{''.join(shapes)}</p:spTree></p:cSld></p:sld>"


def table(y: int, *rows: tuple[str, ...]) -> str:
    cells = "".join(
        "<a:tr>"
        + "".join(f"<a:tc><a:txBody><a:p><a:r><a:t>{c}</a:t></a:r></a:p></a:txBody></a:tc>" for c in row)
        + "</a:tr>"
        for row in rows
    )
    return (
        f'<p:graphicFrame><p:xfrm><a:off x="0" y="{y}"/></p:xfrm><a:graphic><a:graphicData><a:tbl>{cells}</a:tbl>'
        "</a:graphicData></a:graphic></p:graphicFrame>"
    )


def a_presentation(slides: list[str], order: list[int], **parts: str) -> bytes:
    """Slides in files in one order, and shown in another; `parts` are notes of slide 1, or its comments."""
    notes = relationships(*((name, name.rstrip("0123456789"), f"../{name}.xml") for name in parts))
    ids = "".join(f'<p:sldId id="{256 + n}" r:id="s{n}"/>' for n in order)
    return zipped(
        {
            "ppt/presentation.xml": f"<p:presentation {NAMES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": relationships(
                *((f"s{n}", "slide", f"slides/slide{n}.xml") for n in range(1, len(slides) + 1))
            ),
            "ppt/slides/_rels/slide1.xml.rels": notes,
            **{f"ppt/slides/slide{n}.xml": content for n, content in enumerate(slides, start=1)},
            **{f"ppt/{name}.xml": content for name, content in parts.items()},
        }
    )


INCH = 914_400
SHAPES = slide(
    shape("Below left", 3 * INCH, 0),
    shape("Below right", 3 * INCH + 10_000, 5 * INCH),
    f'<p:grpSp><p:nvGrpSpPr><p:cNvPr id="2" name="g"/></p:nvGrpSpPr><p:grpSpPr><a:xfrm><a:off x="0" y="{2 * INCH}"/>'
    f"</a:xfrm></p:grpSpPr>{shape('Grouped', 2 * INCH)}</p:grpSp>",
    table(4 * INCH, ("Part", "Price"), ("Quillstone 7", "12 €")),
    shape("The title", 5 * INCH, placeholder="title"),
    shape("12", 6 * INCH, placeholder="sldNum"),
)
SAMPLES = [
    Sample(
        "sheets with their names, cells with the names of their columns, values as Excel shows them",
        "a.xlsx",
        a_workbook(),
        "Prices Price list Part Price Tax From Code Sold Part: Quillstone 7; Price: 0.3; Tax: 19%; From: 2026-03-01; "
        "Code: 00042; Sold: TRUE Späte Blätter Größe Ort Ort: Kiel Größe: 12",
        frozenset({"hidden_text"}),
    ),
    Sample(
        "formulas that were never calculated are said",
        "a.xlsx",
        a_workbook_with_a_formula(),
        "Sheet 12; 30",
        frozenset({"formulas"}),
    ),
    Sample(
        "titles first, then shapes, groups and tables from the top down",
        "a.pptx",
        a_presentation([SHAPES], [1]),
        "The title Grouped Below left Below right Part Price Quillstone 7 12 €",
    ),
    Sample(
        "slides in the order in which they are shown",
        "a.pptx",
        a_presentation([slide(shape("one")), slide(shape("two|three"))], [2, 1]),
        "two three one",
    ),
    Sample(
        "notes are read, hidden slides and comments are left out",
        "a.pptx",
        a_presentation(
            [slide(shape("Shown.", placeholder="body")), slide(shape("Hidden."), attributes='show="0"')],
            [1, 2],
            notesSlide1=slide(shape("Say this.", placeholder="body"), shape("7", placeholder="sldNum")),
            comments1="<p:cmLst/>".replace("<p:cmLst", f"<p:cmLst {NAMES}"),
        ),
        "Shown. Say this.",
        frozenset({"hidden_text", "comments"}),
    ),
    Sample(
        "a picture is said",
        "a.pptx",
        a_presentation([slide(shape("Text."), "<p:pic><p:nvPicPr/></p:pic>")], [1]),
        "Text.",
        frozenset({"pictures"}),
    ),
    Sample(
        "two versions of a shape are read once",
        "a.pptx",
        a_presentation(
            [
                slide(
                    f"<mc:AlternateContent><mc:Choice>{shape('New.')}</mc:Choice>"
                    f"<mc:Fallback>{shape('New.')}</mc:Fallback></mc:AlternateContent>"
                )
            ],
            [1],
        ),
        "New.",
    ),
]
