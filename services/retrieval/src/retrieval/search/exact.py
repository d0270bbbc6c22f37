"""How exactly a passage has what was asked for: the query as a phrase, or its codes.

Fusion by rank cannot see it. A passage that is first by keyword and unknown to the vector search loses to one that is
in the middle of both, although it alone has the number that was asked for.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

# Quotes around a query, or a part of it, mean that it is a phrase.
_QUOTED = re.compile(r'["“”„«](.{3,200}?)["“”»]')
_CODE = re.compile(r"[^\W_]+(?:[-_./:#][^\W_]+)*")
# Longer queries are questions: a passage that has them word by word is a copy of the question.
MAX_PHRASE_WORDS = 6
MIN_CODE_CHARACTERS = 3
MIN_DIGITS_OF_A_NUMBER = 5
SHARE_OF_CODES = 0.9


@dataclass(frozen=True, slots=True)
class Wanted:
    """The phrases and codes of a query, in the form of `normal`. Nothing for most questions."""

    phrases: tuple[str, ...]
    codes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.phrases or self.codes)

    def exactness(self, text: str) -> float:
        """1 for a passage that has a phrase, else the share of the codes that it has, up to 0.9."""
        clean = normal(text)
        if any(map(_finder(clean), self.phrases)):
            return 1.0
        if not self.codes:
            return 0.0
        return SHARE_OF_CODES * sum(map(_finder(clean), self.codes)) / len(self.codes)


NOTHING = Wanted((), ())


def to_wanted(query: str) -> Wanted:
    clean = normal(query)
    phrases = [normal(quoted) for quoted in _QUOTED.findall(query)]
    bare = clean.strip(" .?!\"“”„«»'")
    if not phrases and 2 <= len(bare.split()) <= MAX_PHRASE_WORDS:
        phrases.append(bare)
    codes = dict.fromkeys(word for word in _CODE.findall(clean) if _is_code(word))
    return Wanted(tuple(phrases), tuple(codes))


def normal(text: str) -> str:
    """Compatible forms of a character are one, case is folded, white space is a space, all dashes are a hyphen."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_DASHES.sub("-", folded).split())


_DASHES = re.compile("[\u2010-\u2015\u2212]")


def _is_code(word: str) -> bool:
    digits = sum(map(str.isdigit, word))
    if not digits or len(word) < MIN_CODE_CHARACTERS:
        return False
    return digits < len(word) or digits >= MIN_DIGITS_OF_A_NUMBER


def _finder(text: str) -> Callable[[str], bool]:
    """Whether a text has some words, not inside of longer ones."""

    def has(words: str) -> bool:
        start = text.find(words)
        while start >= 0:
            end = start + len(words)
            before, after = text[start - 1 : start] if start else "", text[end : end + 1]
            inside = (before.isalnum() and words[0].isalnum()) or (after.isalnum() and words[-1].isalnum())
            if not inside or not text[start:end].isascii():
                return True
            start = text.find(words, start + 1)
        return False

    return has
