"""PDF documents written byte by byte: forms, and fonts that do not say what their characters mean."""

from __future__ import annotations

from services.retrieval.tests.corpus.samples import Sample

HELVETICA = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
# Its glyphs have names of their own, which mean nothing.
NAMELESS = b"<</Type/Font/Subtype/Type1/BaseFont/ABCDEF+Own/Encoding<</Type/Encoding/Differences[97/g1/g2/g3/g4/g5]>>>>"
# Type 0 with glyph numbers instead of characters, and no map to Unicode.
GLYPH_NUMBERS = (
    b"<</Type/Font/Subtype/Type0/BaseFont/ABCDEF+Sub/Encoding/Identity-H/DescendantFonts[<</Type/Font"
    b"/Subtype/CIDFontType2/BaseFont/ABCDEF+Sub/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
    b"/FontDescriptor<</Type/FontDescriptor/FontName/ABCDEF+Sub/Flags 4>>>>]>>"
)
IMAGE = (
    b"<</Type/XObject/Subtype/Image/Width 1/Height 1/ColorSpace/DeviceGray/BitsPerComponent 8/Length 1>>stream\n"
    b"\x00\nendstream"
)
WIDGET = b"<</Type/Annot/Subtype/Widget/F 4"


def a_pdf_of(objects: list[bytes]) -> bytes:
    """Object 1 is the catalog."""
    body, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer


def a_pdf_with(*contents: bytes, annotations: tuple[bytes, ...] = (), font: bytes = HELVETICA) -> bytes:
    """A page for each content stream. /F1 is Helvetica, /F2 is `font`, /I1 a picture; annotations are on page 1."""
    count = len(contents)
    first, streams = 6, 6 + count
    notes = 6 + 2 * count
    references = b" ".join(b"%d 0 R" % (notes + n) for n in range(len(annotations)))
    pages = [
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R/Annots[%s]"
        b"/Resources<</Font<</F1 3 0 R/F2 4 0 R>>/XObject<</I1 5 0 R>>>>>>"
        % (streams + n, references if n == 0 else b"")
        for n in range(count)
    ]
    return a_pdf_of(
        [
            b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[%s]/DA(/F1 12 Tf)/DR<</Font<</F1 3 0 R>>>>>>>>"
            % references,
            b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(b"%d 0 R" % (first + n) for n in range(count)), count),
            HELVETICA,
            font,
            IMAGE,
            *pages,
            *(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content) for content in contents),
            *annotations,
        ]
    )


LABELS = (
    b"BT /F1 12 Tf 72 700 Td (Name:) Tj 0 -40 Td (City:) Tj 200 0 Td (Agree:) Tj -200 -40 Td (End of the form.) Tj ET"
)
FORM = (
    WIDGET + b"/FT/Tx/T(name)/V(Ada Quillstone)/Rect[120 695 300 712]>>",
    WIDGET + b"/FT/Ch/Ff 131072/Opt[(Oslo)(Riga)]/T(city)/V(Riga)/Rect[120 655 200 672]>>",
    WIDGET + b"/FT/Btn/T(agree)/V/Yes/AS/Yes/AP<</N<</Yes 7 0 R/Off 7 0 R>>>>/Rect[320 655 340 672]>>",
    WIDGET + b"/FT/Tx/Ff 8192/T(password)/V(secret)/Rect[120 500 300 520]>>",
    b"<</Type/Annot/Subtype/Widget/F 2/FT/Tx/T(hidden)/V(hidden)/Rect[120 400 300 420]>>",
    b"<</Type/Annot/Subtype/FreeText/Contents(Written on it)/DA(/F1 12 Tf)/Rect[72 580 300 600]>>",
)
READABLE = b"BT /F1 12 Tf 72 700 Td (Readable page.) Tj ET"
MEANINGLESS = b"BT /F2 12 Tf 72 700 Td (abcabcabcabc) Tj ET"
MIXED = b"BT /F1 12 Tf 72 700 Td (Words that are readable here ) Tj /F2 12 Tf (abc) Tj ET"
PICTURE = b"q 100 0 0 100 72 600 cm /I1 Do Q"

UNREADABLE = frozenset({"unreadable_fonts"})
SAMPLES = [
    Sample(
        "what is typed into a form is read beside its label",
        "form.pdf",
        a_pdf_with(LABELS, annotations=FORM),
        "Name: Ada Quillstone City: Riga Agree: [x] End of the form. Written on it",
    ),
    Sample(
        "a form without labels is read",
        "form.pdf",
        a_pdf_with(b"", annotations=FORM[:1]),
        "Ada Quillstone",
    ),
    Sample(
        "a page in a font without a map is left out and said",
        "a.pdf",
        a_pdf_with(READABLE, MEANINGLESS, font=NAMELESS),
        "Readable page.",
        UNREADABLE,
    ),
    Sample(
        "words in a font without a map are left out of a readable page",
        "a.pdf",
        a_pdf_with(MIXED, font=NAMELESS),
        "Words that are readable here",
        UNREADABLE,
    ),
    Sample(
        "a page that is a picture is said",
        "a.pdf",
        a_pdf_with(READABLE, PICTURE),
        "Readable page.",
        frozenset({"scanned_pages"}),
    ),
]
