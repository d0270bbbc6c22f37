"""HTML and Markdown: what a browser shows, in the encoding that the page declares."""

from __future__ import annotations

from services.retrieval.tests.corpus.samples import Sample


def page(name: str, text: str, source: str | bytes, *warnings: str, encoding: str = "utf-8") -> Sample:
    content = source.encode(encoding) if isinstance(source, str) else source
    return Sample(name, "a.html", content, text, frozenset(warnings))


def markdown(name: str, text: str, source: str, *warnings: str) -> Sample:
    return Sample(name, "a.md", source.encode(), text, frozenset(warnings))


def meta(charset: str) -> str:
    return f"<html><head><meta charset={charset}></head><body><p>"


EQUIV = '<meta content="text/html; charset={}" http-equiv="Content-Type"><p>'
BILL_RU, BILL_JA, BILL_ZH, BILL_KO = "Счёт №5", "請求書", "发票编号", "청구서"
TURKISH = "Sözleşme ışığı"

PAGES = [
    page("windows-1251 as declared", BILL_RU, meta('"windows-1251"') + BILL_RU, encoding="cp1251"),
    page(
        "Shift_JIS as declared by the server's header", BILL_JA, EQUIV.format("Shift_JIS") + BILL_JA, encoding="cp932"
    ),
    page("GBK declared as gb2312", "发票 €镕", meta("gb2312") + "发票 €镕", encoding="gb18030"),
    page("EUC-KR with its old label", BILL_KO, meta("ks_c_5601-1987") + BILL_KO, encoding="cp949"),
    page("iso-8859-1 means windows-1252", "“5 €”", meta("iso-8859-1") + "“5 €”", encoding="cp1252"),
    page("iso-8859-9 means windows-1254", TURKISH, meta("iso-8859-9") + TURKISH, encoding="cp1254"),
    page("utf-16 in a declaration means UTF-8", BILL_RU, meta("utf-16") + BILL_RU),
    page("a mark of byte order outranks the declaration", BILL_RU, "\ufeff" + meta("shift_jis") + BILL_RU),
    page("UTF-16 by its mark", BILL_RU, meta("utf-8") + BILL_RU, encoding="utf-16"),
    page("a declaration in a comment is none", BILL_RU, "<!-- <meta charset=shift_jis> -->" + meta("utf-8") + BILL_RU),
    page("the first declaration counts", "Счёт", meta("koi8-r") + '<meta charset="utf-8">Счёт', encoding="koi8-r"),
    page(
        "an XML declaration counts",
        BILL_RU,
        f'<?xml version="1.0" encoding="windows-1251"?><p>{BILL_RU}',
        encoding="cp1251",
    ),
    page("a wrong declaration gives way to UTF-8", BILL_ZH * 9, meta("euc-jp") + BILL_ZH * 9),
    page(
        "a declared page with one damaged byte",
        "請求書の支払期限は月末です。株式会社サンプル End",
        meta("shift_jis").encode() + "請求書の支払期限は月末です。株式会社サンプル".encode("cp932") + b"\x81 End",
        "unreadable_bytes",
    ),
    page("an unknown declaration is none", BILL_RU, meta("x-nothing") + BILL_RU),
    page(
        "cells of a row are apart, and rows",
        "Part Price Quillstone 7 12 €",
        "<table><tr><td>Part</td><td>Price</td></tr>\n<tr>\n<td>Quillstone 7</td>\n<td>12 €</td>\n</tr></table>",
    ),
    page("line ends in the source are spaces", "one two", "<p>one\ntwo</p>"),
    page("soft hyphens do not split a word", "example", "<p>exam&shy;ple</p>"),
    page(
        "values of forms, names of pictures and words of drawings are shown",
        "Name Ada Notes typed Send A quillstone. In the drawing",
        '<p>Name <input value="Ada"><input type=hidden value=token><input type=password value=secret></p>'
        "<p>Notes <textarea>typed</textarea><input type=submit value=Send></p>"
        '<img alt="A quillstone."><svg><title>t</title><text>In the drawing</text></svg>',
    ),
    page("readings of words are beside them", "漢字(kanji) end", "<p><ruby>漢字<rt>kanji</rt></ruby> end</p>"),
    page(
        "what the page hides is left out and said",
        "Shown. Last.",
        '<p>Shown.</p><p hidden>Hidden.</p><div style="color:red; display:none">Too.</div><p>Last.</p>',
        "hidden_text",
    ),
    page("navigation is left out and said", "Shown.", "<nav>Menu</nav><p>Shown.</p>", "navigation"),
    page(
        "captions, lists and summaries are apart",
        "Cap cell one two Sum Body def term",
        "<table><caption>Cap</caption><tr><td>cell</table><ul><li>one<li>two</ul><details><summary>Sum</summary>Body</details>"
        "<dl><dt>def<dd>term</dl>",
    ),
]
TEXTS = [
    markdown(
        "tables of HTML are read in their place",
        "Prices Part Quillstone 7 After.",
        "# Prices\n\n<table>\n<tr><th>Part</th></tr>\n<tr><td>Quillstone 7</td></tr>\n</table>\n\nAfter.",
    ),
    markdown(
        "a table of HTML with blank lines and indented rows is read in order",
        "Before. a b c d After.",
        "Before.\n\n<table>\n\n  <tr>\n\n    <td>a</td><td>b</td>\n\n  </tr>\n\n    <tr><td>c</td><td>d</td></tr>\n\n"
        "</table>\n\nAfter.",
    ),
    markdown("blocks of HTML and their Markdown", "Note: inner bold", "<div>\n\nNote: inner **bold**\n\n</div>"),
    markdown("tags inside a line part words as a browser does", "one two threefour", "one<br>two <b>three</b>four"),
    markdown(
        "details are read",
        "More Hidden at first.",
        "<details><summary>More</summary>\n\nHidden at first.\n\n</details>",
    ),
    markdown("comments and scripts are not shown", "a b", "a\n\n<!-- no -->\n<script>no()</script>\n\nb"),
    markdown("a footnote of one word does not vanish", "Text[^1]. [^1]: Quillstone", "Text[^1].\n\n[^1]: Quillstone"),
    markdown(
        "tables, code, strikes and pictures",
        "a b 1 2 <td>x</td> old A picture",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```html\n<td>x</td>\n```\n\n~~old~~ ![A picture](p.png)",
    ),
    markdown("a fence may hold a table's tag", "<table> After. end", "```\n<table>\n```\n\nAfter.\n\nend"),
]
SAMPLES = [*PAGES, *TEXTS]
