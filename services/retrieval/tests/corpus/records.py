"""Separated values, JSON, mail and books."""

from __future__ import annotations

from email.message import EmailMessage

from services.retrieval.tests.corpus.samples import Sample, zipped


def csv(name: str, text: str, source: str, *warnings: str, encoding: str = "utf-8", filename: str = "a.csv") -> Sample:
    return Sample(name, filename, source.encode(encoding), text, frozenset(warnings))


def json(name: str, text: str, source: str, filename: str = "a.json", encoding: str = "utf-8") -> Sample:
    return Sample(name, filename, source.encode(encoding), text)


def a_mail(subject: str = "Angebot für Öfen", charset: str = "utf-8") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "Ada Größe <ada@example.com>"
    message["To"] = "bob@example.com"
    message["Message-ID"] = "<1@example.com>"
    message.set_content("Der Preis beträgt 12 €.\n", charset=charset)
    return message


HEADERS = "Subject: Angebot für Öfen From: Ada Größe <ada@example.com> To: bob@example.com"


def with_html(html: str, charset: str = "utf-8") -> bytes:
    message = a_mail()
    message.add_alternative(html, subtype="html", charset=charset)
    return message.as_bytes()


def with_attachments() -> bytes:
    message = a_mail()
    message.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="Rechnung.pdf")
    forwarded = a_mail("Forwarded")
    message.add_attachment(forwarded)
    return message.as_bytes()


RAW = (
    b"Subject: =?windows-1251?B?0fe48g==?=\r\nFrom: a@example.com\r\nContent-Type: text/plain; charset=windows-1251\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + "Счёт №5".encode("cp1251")
)
MALFORMED = b'Subject: Offer\nFrom: a@\nTo: "\nCc: foo@[1.2\n\nStill read.'
ENCRYPTED_MAIL = b"Subject: x\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\nMIAG"
UNDECLARED = b"Subject: plain\nFrom: a@example.com\n\n" + "Der Preis beträgt 12 €.".encode()

OPF = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>The Quillstone</dc:title><dc:creator>Ada</dc:creator></metadata>
<manifest><item id="b" href="text/two%20b.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one.xhtml" media-type="application/xhtml+xml"/>
<item id="c" href="c.css" media-type="text/css"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>"""
CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'


def a_book(**more: str) -> bytes:
    parts: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": OPF,
        "OEBPS/text/two b.xhtml": '<?xml version="1.0" encoding="utf-8"?><html><body><p>Zweites Kapitel.</p></html>',
        "OEBPS/text/one.xhtml": "<html><body><h1>One</h1><p>First chapter.</p></body></html>",
        **{f"META-INF/{name}.xml": content for name, content in more.items()},
    }
    return zipped(parts)


PROTECTED = a_book(
    encryption='<encryption><EncryptedData><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
    "</EncryptedData></encryption>"
)
SAMPLES = [
    csv(
        "a row with the names of its columns",
        "Part Price Part: Quillstone 7; Price: 12",
        "Part,Price\nQuillstone 7,12\n",
    ),
    csv("semicolons, and commas in numbers", "Teil Preis Teil: Ofen; Preis: 1,50", 'Teil;Preis\n"Ofen";1,50\n'),
    csv("two columns, a blank line at the end", "a b a: 1; b: 2", "a;b\n1;2\n\n"),
    csv("capital letters in the extension", "a b a: 1; b: 2", "a,b\n1,2\n", filename="A.CSV"),
    csv("the hint of a spreadsheet", "a b a: 1; b: 2", "sep=|\na|b\n1|2\n"),
    csv("tabs", "a b a: 1; b: 2", "a\tb\n1\t2\n", filename="a.tsv"),
    csv("line ends and quotes inside of a value", 'a b a: one two; b: "x"', 'a,b\n"one\ntwo","""x"""\n'),
    csv("rows of unequal length", "a b a: 1; b: 2; 3 a: 4", "a,b\n1,2,3\n4\n"),
    csv("a mark of byte order is no part of a name", "a b a: 1; b: 2", "\ufeffa,b\n1,2\n"),
    csv(
        "Excel's own encoding",
        "Größe Straße Größe: über; Straße: Café",
        "Größe;Straße\nüber;Café\n",
        "detected_encoding",
        encoding="cp1252",
    ),
    csv("values without names", "1; 2 3; 4", "1,2\n3,4\n"),
    json(
        "values beside their paths",
        "order.id: 7 order.items[0].name: Quillstone order.items[1].name: Öfen paid: true",
        '{"order": {"id": 7, "items": [{"name": "Quillstone"}, {"name": "\\u00d6fen"}], "note": null}, "paid": true}',
    ),
    json("a zero, which Postgres cannot store", "a: before", r'{"a": "be\u0000fore"}'),
    json(
        "halves of a surrogate pair, beside a whole pair and a backslash",
        r"a: cut � off b: 😀 c: \ud83d d: found".replace(r"\\", "\\"),
        r'{"a": "cut \ud83d off", "b": "\ud83d\ude00", "c": "\\ud83d", "d": "found"}',
    ),
    json("half of a surrogate pair in lines of JSON", "a: � a: found", '{"a": "\\udc80"}\n{"a": "found"}\n', "a.jsonl"),
    json("lines of JSON", "a: 1 a: 2", '{"a": 1}\n\n{"a": 2}\n', filename="a.jsonl"),
    json("JSON in UTF-16", "a: Größe", '{"a": "Größe"}', encoding="utf-16"),
    Sample("a plain mail", "a.eml", a_mail().as_bytes(), f"{HEADERS} Der Preis beträgt 12 €."),
    Sample(
        "a mail in another charset", "a.eml", a_mail(charset="cp1252").as_bytes(), f"{HEADERS} Der Preis beträgt 12 €."
    ),
    Sample("a mail as it was sent in 8 bits", "a.eml", RAW, "Subject: Счёт From: a@example.com Счёт №5"),
    Sample(
        "a mail that declares no charset",
        "a.eml",
        UNDECLARED,
        "Subject: plain From: a@example.com Der Preis beträgt 12 €.",
    ),
    Sample(
        "malformed addresses are read as they are",
        "a.eml",
        MALFORMED,
        'Subject: Offer From: a@ To: " Cc: foo@[1.2 Still read.',
    ),
    Sample(
        "of alternatives the page, whose own declaration is wrong",
        "a.eml",
        with_html("<meta charset=shift_jis><table><tr><td>Preis</td><td>12 €</td></tr></table>"),
        f"{HEADERS} Preis 12 €",
    ),
    Sample(
        "attachments are named, attached mails are read",
        "a.eml",
        with_attachments(),
        f"{HEADERS} Der Preis beträgt 12 €. Attachment: Rechnung.pdf Subject: Forwarded From: Ada Größe "
        "<ada@example.com> To: bob@example.com Der Preis beträgt 12 €.",
        frozenset({"embedded_files"}),
    ),
    Sample(
        "chapters in the order of reading",
        "a.epub",
        a_book(),
        "The Quillstone Ada One First chapter. Zweites Kapitel.",
    ),
]
