"""Word documents: each has one trap that hides text from a reader of its XML."""

from __future__ import annotations

from services.retrieval.tests.corpus.samples import Sample, zipped

NAMES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:v="urn:schemas-microsoft-com:vml" xmlns:wps="urn:wps" xmlns:a="urn:a" xmlns:dgm="urn:dgm"'
)
STRICT = NAMES.replace(
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main", "http://purl.oclc.org/ooxml/wordprocessingml/main"
)
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def p(*runs: str, properties: str = "") -> str:
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{''.join(runs)}</w:p>"


def r(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def cell(*content: str) -> str:
    return f"<w:tc>{''.join(content)}</w:tc>"


def row(*cells: str) -> str:
    return f"<w:tr>{''.join(cells)}</w:tr>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def numbered(text: str, level: int = 0, number: int = 1) -> str:
    return p(r(text), properties=f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


def a_word_document(body: str, names: str = NAMES, **parts: str) -> bytes:
    """`parts` are named by their kind, as in "footnotes" or "header"; a digit after the kind makes another one."""
    relations = "".join(
        f'<Relationship Id="{name}" Type="{KIND}/{name.rstrip("0123456789")}" Target="{file_of(name)}"/>'
        for name in parts
    )
    files: dict[str, str | bytes] = {
        "word/document.xml": f"<w:document {names}><w:body>{body}</w:body></w:document>",
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{RELATIONS}">{relations}</Relationships>',
        **{f"word/{file_of(name)}": content for name, content in parts.items()},
    }
    return zipped(files)


def file_of(part: str) -> str:
    return f"{part}.html" if part.startswith("aFChunk") else f"{part}.xml"


def sample(name: str, text: str, body: str, *warnings: str, names: str = NAMES, **parts: str) -> Sample:
    return Sample(name, "a.docx", a_word_document(body, names, **parts), text, frozenset(warnings))


def part(root: str, content: str) -> str:
    return f"<w:{root} {NAMES}>{content}</w:{root}>"


HEADERS = (
    '<w:sectPr><w:headerReference w:type="default" r:id="header1"/><w:headerReference w:type="first" r:id="header2"/>'
    '<w:headerReference w:type="even" r:id="header3"/><w:footerReference w:type="default" r:id="footer1"/></w:sectPr>'
)
LEVELS = (
    '<w:abstractNum w:abstractNumId="7">'
    '<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>'
    '</w:abstractNum><w:abstractNum w:abstractNumId="8">'
    '<w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="•"/></w:lvl></w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
)
BOX = f"<w:txbxContent>{p(r('In the box.'))}</w:txbxContent>"

SAMPLES = [
    sample(
        "a soft break parts words",
        "Item 7 Quillstone",
        p("<w:r><w:t>Item 7</w:t><w:br/><w:t>Quillstone</w:t></w:r>"),
    ),
    sample("a carriage return parts words", "one two", p("<w:r><w:t>one</w:t><w:cr/><w:t>two</w:t></w:r>")),
    sample(
        "tabs part words, and tab stops are no text",
        "Total 12 €",
        p("<w:r><w:t>Total</w:t><w:tab/><w:t>12 €</w:t></w:r>", properties='<w:tabs><w:tab w:val="left"/></w:tabs>'),
    ),
    sample("runs inside a word are one word", "ProjectX2024", p(r("Project"), r("X2024"))),
    sample(
        "hyphens that do not break are hyphens, soft ones are none",
        "A-7 example",
        p("<w:r><w:t>A</w:t><w:noBreakHyphen/><w:t>7 exam</w:t><w:softHyphen/><w:t>ple</w:t></w:r>"),
    ),
    sample(
        "notes come after their paragraph",
        "Claim[1] and more[i]. [1] The source. [i] At the end. Next.",
        p(
            r("Claim"),
            '<w:r><w:footnoteReference w:id="2"/></w:r>',
            r(" and more"),
            '<w:r><w:endnoteReference w:id="5"/></w:r>',
            r("."),
        )
        + p(r("Next.")),
        footnotes=part(
            "footnotes",
            f'<w:footnote w:id="0" w:type="separator">{p(r("line"))}</w:footnote>'
            f'<w:footnote w:id="2">{p("<w:r><w:footnoteRef/></w:r>", r("The source."))}</w:footnote>',
        ),
        endnotes=part("endnotes", f'<w:endnote w:id="5">{p(r("At the end."))}</w:endnote>'),
    ),
    sample(
        "headers come first, footers last, and those that no page shows are left out",
        "Letterhead Body. Page footer",
        p(r("Body.")) + HEADERS,
        header1=part("hdr", p(r("Letterhead"))),
        header2=part("hdr", p(r("First page only"))),
        header3=part("hdr", p(r("Even pages only"))),
        footer1=part("ftr", p(r("Page footer"))),
    ),
    sample(
        "headers of first and even pages that are shown, each once",
        "Letterhead First page only Even pages only One. Two. Page footer",
        p(r("One."), properties=HEADERS.replace("</w:sectPr>", "<w:titlePg/></w:sectPr>")) + p(r("Two.")) + HEADERS,
        header1=part("hdr", p(r("Letterhead"))),
        header2=part("hdr", p(r("First page only"))),
        header3=part("hdr", p(r("Even pages only"))),
        footer1=part("ftr", p(r("Page footer"))),
        settings=part("settings", "<w:evenAndOddHeaders/>"),
    ),
    sample(
        "a text box is read once, after its paragraph",
        "Beside the box. In the box. After.",
        p(
            r("Beside "),
            f"<w:r><mc:AlternateContent><mc:Choice><w:drawing><wps:txbx>{BOX}</wps:txbx></w:drawing></mc:Choice>"
            f"<mc:Fallback><w:pict><v:textbox>{BOX}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>",
            r("the box."),
        )
        + p(r("After.")),
    ),
    sample("an old text box is read", "In the box.", p(f"<w:r><w:pict><v:textbox>{BOX}</v:textbox></w:pict></w:r>")),
    sample(
        "tables are read in their place, a row a line",
        "Before. Part Price Quillstone 7 of oak 12 € After.",
        p(r("Before."))
        + table(
            row(cell(p(r("Part"))), cell(p(r("Price")))),
            row(cell(p(r("Quillstone 7")), p(r("of oak"))), cell(p(r("12 €")))),
        )
        + p(r("After.")),
    ),
    sample(
        "a table in a cell is read",
        "outer inner left inner right",
        table(row(cell(p(r("outer")), table(row(cell(p(r("inner left"))), cell(p(r("inner right"))))), p()))),
    ),
    sample(
        "content controls hide nothing",
        "Cover title Before CONTROLLED after. cell row",
        f"<w:sdt><w:sdtPr/><w:sdtContent>{p(r('Cover title'))}</w:sdtContent></w:sdt>"
        + p(r("Before "), f"<w:sdt><w:sdtContent>{r('CONTROLLED')}</w:sdtContent></w:sdt>", r(" after."))
        + f"<w:tbl><w:tr><w:sdt><w:sdtContent>{cell(p(r('cell')))}</w:sdtContent></w:sdt></w:tr>"
        f"<w:sdt><w:sdtContent>{row(cell(p(r('row'))))}</w:sdtContent></w:sdt></w:tbl>",
    ),
    sample(
        "links, fields and tags are read, instructions of fields are not",
        "See the guide on page 4 by Ada.",
        p(
            r("See "),
            f'<w:hyperlink r:id="x">{r("the guide")}</w:hyperlink>',
            r(" on page "),
            '<w:r><w:fldChar w:fldCharType="begin"/><w:instrText>PAGEREF _x</w:instrText></w:r>',
            r("4"),
            f' <w:fldSimple w:instr="AUTHOR">{r(" by Ada")}</w:fldSimple>',
            f"<w:smartTag>{r('.')}</w:smartTag>",
        ),
    ),
    sample(
        "the choice in a form's list is read",
        "Colour: green",
        p(
            r("Colour: "),
            '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList><w:result w:val="1"/>'
            '<w:listEntry w:val="red"/><w:listEntry w:val="green"/></w:ddList></w:ffData></w:fldChar></w:r>',
        ),
    ),
    sample(
        "tracked changes are read as accepted",
        "The new price.",
        p(
            r("The "),
            "<w:del><w:r><w:delText>old</w:delText></w:r></w:del>",
            f"<w:ins>{r('new')}</w:ins>",
            f"<w:moveFrom>{r(' gone')}</w:moveFrom>",
            r(" price."),
        ),
        "deleted_text",
    ),
    sample(
        "a row that a tracked change deletes is left out",
        "kept",
        table(row(cell(p(r("kept")))), f"<w:tr><w:trPr><w:del/></w:trPr>{cell(p(r('gone')))}</w:tr>"),
        "deleted_text",
    ),
    sample(
        "hidden text is left out and said",
        "Shown.",
        p(r("Shown."), "<w:r><w:rPr><w:vanish/></w:rPr><w:t>Hidden.</w:t></w:r>"),
        "hidden_text",
    ),
    sample(
        "pictures and comments are left out and said",
        "With a picture.",
        p(
            r("With a picture."),
            '<w:r><w:drawing><a:blip r:embed="x"/></w:drawing><w:commentReference w:id="1"/></w:r>',
        ),
        "pictures",
        "comments",
    ),
    sample(
        "numbers of lists are read as Word shows them",
        "1. Scope 1.a) Goods 1.b) Services 2. Price 2.a) Net - point",
        numbered("Scope")
        + numbered("Goods", 1)
        + numbered("Services", 1)
        + numbered("Price")
        + numbered("Net", 1)
        + numbered("point", number=2),
        numbering=part("numbering", LEVELS),
    ),
    sample(
        "numbers of headings come from their style",
        "1. Scope 2. Price",
        p(r("Scope"), properties='<w:pStyle w:val="H1"/>') + p(r("Price"), properties='<w:pStyle w:val="H1"/>'),
        numbering=part("numbering", LEVELS),
        styles=part(
            "styles",
            '<w:style w:styleId="Base"><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
            '<w:style w:styleId="H1"><w:basedOn w:val="Base"/></w:style>',
        ),
    ),
    sample(
        "fractions and readings are not glued",
        "1/2 漢字(kanji) x^2",
        p(
            "<m:oMath><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath>",
            f"{r(' ')}<w:r><w:ruby><w:rt>{r('kanji')}</w:rt>",
            f"<w:rubyBase>{r('漢字')}</w:rubyBase></w:ruby></w:r>{r(' ')}",
            "<m:oMath><m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:oMath>",
        ),
    ),
    sample(
        "words of diagrams and charts are read",
        "Plan: Design Build",
        p(r("Plan:"), '<w:r><w:drawing><dgm:relIds r:dm="diagramData1"/></w:drawing></w:r>'),
        diagramData1="<d xmlns:a='urn:a'><a:p><a:r><a:t>De</a:t></a:r><a:r><a:t>sign</a:t></a:r></a:p>"
        "<a:p><a:r><a:t>Build</a:t></a:r></a:p></d>",
    ),
    sample(
        "a page of HTML inside the document is read",
        "Before. Inside. After.",
        p(r("Before.")) + '<w:altChunk r:id="aFChunk1"/>' + p(r("After.")),
        aFChunk1="<nav>Menu</nav><p>Inside.</p>",
    ),
    sample("strict documents are read", "Strict text.", p(r("Strict text.")), names=STRICT),
]
