"""The numbers and bullets that Word puts before paragraphs: they are in no text, but readers see and cite them."""

import re
from collections import defaultdict
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from retrieval.parsing.ooxml import attribute, child, local_name

_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)
_PLACEHOLDER = re.compile(r"%([1-9])")


@dataclass(frozen=True, slots=True)
class _Level:
    style: str
    text: str
    start: int


class Numbering:
    """Counts the paragraphs of each list, in the order of the document."""

    def __init__(self, numbering: Element | None, styles: Element | None) -> None:
        abstract = {attribute(item, "abstractNumId"): _levels(item) for item in _children(numbering, "abstractNum")}
        self._lists = {
            attribute(item, "numId"): abstract.get(_value(child(item, "abstractNumId")), {})
            for item in _children(numbering, "num")
        }
        self._styles = {attribute(item, "styleId"): item for item in _children(styles, "style")}
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)

    def label(self, properties: Element | None) -> str:
        """What stands before a paragraph of these properties, with a space after it; empty for most."""
        number, level = self._list_of(properties)
        levels = self._lists.get(number, {})
        if level not in levels:
            return ""
        counts = self._counts[number]
        counts[level] = counts.get(level, levels[level].start - 1) + 1
        for deeper in [other for other in counts if other > level]:
            del counts[deeper]
        if levels[level].style in {"bullet", "none"}:
            return "- " if levels[level].style == "bullet" else ""

        def number_of(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            found = levels.get(at)
            return "" if found is None else to_number(counts.get(at, found.start), found.style)

        text = _PLACEHOLDER.sub(number_of, levels[level].text)
        return f"{text} " if text else ""

    def _list_of(self, properties: Element | None) -> tuple[str, int]:
        """The list and the level, from the paragraph or from its styles."""
        number, level = "", ""
        seen: set[str] = set()
        while properties is not None:
            found = child(properties, "numPr")
            number = number or _value(child(found, "numId"))
            level = level or _value(child(found, "ilvl"))
            style = _value(child(properties, "pStyle"))
            if not style and seen:
                style = ""
            if number or style in seen or style not in self._styles:
                break
            seen.add(style)
            properties = self._properties_of(style)
        return number, int(level) if level.isdigit() else 0

    def _properties_of(self, style: str) -> Element | None:
        """The style's own properties, or those of the first style below it that says something of a list."""
        seen: set[str] = set()
        while style in self._styles and style not in seen:
            seen.add(style)
            found = child(self._styles[style], "pPr")
            if child(found, "numPr") is not None:
                return found
            style = _value(child(self._styles[style], "basedOn"))
        return None


def to_number(count: int, style: str) -> str:
    """The number in one of Word's styles; decimal for those not known here."""
    if style in {"lowerLetter", "upperLetter"} and count > 0:
        letters = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
        return letters if style == "lowerLetter" else letters.upper()
    if style in {"lowerRoman", "upperRoman"} and 0 < count < 4000:
        return to_roman(count) if style == "lowerRoman" else to_roman(count).upper()
    return f"{count:02}" if style == "decimalZero" else str(count)


def to_roman(count: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        text += letters * (count // value)
        count %= value
    return text


def _levels(abstract: Element) -> dict[int, _Level]:
    found: dict[int, _Level] = {}
    for item in _children(abstract, "lvl"):
        start = _value(child(item, "start"))
        style = _value(child(item, "numFmt")) or "decimal"
        level = _Level(style, _value(child(item, "lvlText")), int(start) if start.isdigit() else 1)
        found[int(attribute(item, "ilvl", "0"))] = level
    return found


def _children(element: Element | None, name: str) -> list[Element]:
    return [item for item in (element if element is not None else ()) if local_name(item) == name]


def _value(element: Element | None) -> str:
    return "" if element is None else attribute(element, "val")
