"""Detects the encoding of bytes that are not UTF-8. A detector proposes encodings; each must also look like writing.

No answer is better than a wrong one: text in a wrong encoding would be embedded, paid for and cited.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from charset_normalizer import from_bytes

# The encodings of the Encoding Standard that are common in files.
CANDIDATES = [
    *(f"cp{number}" for number in (1252, 1250, 1251, 1253, 1254, 1255, 1256, 1257, 874)),
    *("koi8_r", "gb18030", "big5", "cp932", "euc_jp", "cp949"),
]
# The detector's measure of disorder: 0 is none.
MAX_CHAOS = 0.15
# Two encodings whose measures are closer than these cannot be told apart.
CHAOS_MARGIN, COHERENCE_MARGIN = 0.03, 0.05
MIN_COMMON_SHARE = 0.9
MAX_ODD_SHARE = 0.1
# So few characters beyond ASCII are no evidence.
MIN_EVIDENCE = 3
MIN_ASCII_SHARE_OF_LATIN = 0.6
_ODD_CATEGORIES = {"So", "Sk", "No", "Sm", "Cc", "Cn", "Co", "Cf"}
_USUAL_SIGNS = set("©®°№·±×÷¼½¾²³\u00ad\u200c\u200d\u200e\u200f™¬")


@dataclass(frozen=True, slots=True)
class _Proposal:
    codec: str
    text: str
    chaos: float
    coherence: float


def detect(sample: bytes) -> str:
    """The codec, or nothing when two are equally likely or none fits."""
    found = from_bytes(sample, cp_isolation=CANDIDATES, threshold=MAX_CHAOS, enable_fallback=False)
    proposals = [
        _Proposal(match.encoding, text, match.chaos, match.coherence)
        for match in found
        if (text := _decoded(sample, match.encoding)) and _is_writing(text, match.encoding)
    ]
    # Characters of two bytes that are all common cannot be chance; a letter of one byte can.
    wide = [item for item in proposals if item.codec in _COMMON]
    if wide:
        return _only(wide)
    western = _western(sample)
    best = min(proposals, key=lambda item: item.chaos - item.coherence, default=None)
    if best is None:
        return western
    rivals = [item for item in proposals if item.text != best.text and _is_close(item, best)]
    enough = sum(not character.isascii() for character in best.text) >= MIN_EVIDENCE
    if western and (not best.coherence or rivals or not enough):
        return western
    return best.codec if enough and not rivals else ""


def _is_close(one: _Proposal, other: _Proposal) -> bool:
    return abs(one.chaos - other.chaos) <= CHAOS_MARGIN and abs(one.coherence - other.coherence) <= COHERENCE_MARGIN


def _only(proposals: list[_Proposal]) -> str:
    """The one whose characters are most common, unless another is as good."""
    least = min(item.chaos for item in proposals)
    proposals = [item for item in proposals if item.chaos <= least + CHAOS_MARGIN]
    ranked = sorted(((_common_share(item.text, item.codec), item.codec) for item in proposals), reverse=True)
    return ranked[0][1] if len(ranked) == 1 or ranked[0][0] > ranked[1][0] else ""


def _decoded(sample: bytes, codec: str) -> str:
    text = sample.decode(codec, "replace")
    # A sample may end inside a character.
    return text if text.count("\ufffd") <= len(text) // 200 + 1 else ""


def _western(sample: bytes) -> str:
    """Windows-1252 for words of ASCII letters with a few others between them, as in Western European languages."""
    text = _decoded(sample, "cp1252")
    letters = [character for character in text if character.isalpha()]
    ascii_share = sum(character.isascii() for character in letters) / max(len(letters), 1)
    return "cp1252" if text and ascii_share >= MIN_ASCII_SHARE_OF_LATIN and _is_writing(text, "cp1252") else ""


def _is_writing(text: str, codec: str) -> bool:
    if codec in _COMMON:
        return _common_share(text, codec) >= MIN_COMMON_SHARE
    high = [index for index, character in enumerate(text) if not character.isascii()]
    odd = sum(_is_odd(text, index) for index in high)
    return bool(high) and odd <= len(high) * MAX_ODD_SHARE


def _is_odd(text: str, index: int) -> bool:
    """A sign that is rare in prose, a mark on no letter, or a capital after a small letter of the same word."""
    character, before = text[index], text[index - 1 : index] if index else ""
    category = unicodedata.category(character)
    if category in {"Mn", "Mc"}:
        return not (before.isalpha() or (before != "" and unicodedata.category(before) in {"Mn", "Mc"}))
    if category == "Lu" and before.islower():
        return True
    return category in _ODD_CATEGORIES and character not in _USUAL_SIGNS


def _common_share(text: str, codec: str) -> float:
    wide = [character for character in text if not character.isascii()]
    return sum(map(_COMMON[codec], wide)) / len(wide) if wide else 0.0


def _leads(codec: str, first: int, last: int) -> Callable[[str], bool]:
    """Characters whose first byte in `codec` is in a range: these standards order characters by how common they are."""

    def is_common(character: str) -> bool:
        code = character.encode(codec, "ignore")
        return len(code) == 2 and first <= code[0] <= last

    return is_common


def _is_common_japanese(character: str) -> bool:
    return "\u3000" <= character <= "\u30ff" or "\uff01" <= character <= "\uff5e" or _JIS_1(character)


_JIS_1 = _leads("cp932", 0x88, 0x98)
_GB_1, _GB_SIGNS = _leads("gb2312", 0xB0, 0xD7), _leads("gb2312", 0xA1, 0xA3)
_BIG5_1 = _leads("big5", 0xA1, 0xC6)
_KS_HANGUL, _KS_SIGNS = _leads("euc_kr", 0xB0, 0xC8), _leads("euc_kr", 0xA1, 0xA3)
_COMMON: dict[str, Callable[[str], bool]] = {
    "gb18030": lambda character: _GB_1(character) or _GB_SIGNS(character),
    "big5": _BIG5_1,
    "cp932": _is_common_japanese,
    "euc_jp": _is_common_japanese,
    "cp949": lambda character: _KS_HANGUL(character) or _KS_SIGNS(character),
}
