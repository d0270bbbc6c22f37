"""Finds the languages of a file: by its script where that tells, else by a statistical model.

Only files are looked at. A query is too short for that, so it is searched for in all languages of its stores.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from threading import Lock

from py3langid.langid import MODEL_FILE, LanguageIdentifier

ENGLISH = "english"
"""Also the language of texts that no rules are known for, and of those whose language is not clear."""

# The model's probability, which is calibrated over lengths: short or mixed texts have low ones.
MIN_CONFIDENCE = 0.8
MIN_LETTERS = 20
# What has less of the text is a quotation, or the name of a thing.
MIN_SHARE = 0.25

# Names are those of Snowball in Postgres (functions/lexemes.sql). The model knows dialects and neighbours of some
# languages by codes of their own; they share the stems of one.
_NAMES = {
    "ar": "arabic",
    "ary": "arabic",
    "arz": "arabic",
    "bs": "serbian",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hr": "serbian",
    "hu": "hungarian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ms": "indonesian",
    "ne": "nepali",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "tr": "turkish",
}
# Scripts by their letters. With a name: all texts of the script are of this language.
_SCRIPTS = (
    (re.compile(r"[A-Za-z\u00C0-\u024F\u1E00-\u1EFF]"), None),
    (re.compile(r"[\u0400-\u052F]"), None),
    (re.compile(r"[\u0600-\u06FF]"), None),
    (re.compile(r"[\u0900-\u097F]"), None),
    (re.compile(r"[\u0370-\u03FF\u1F00-\u1FFF]"), "greek"),
    (re.compile(r"[\u0531-\u0587]"), "armenian"),
    (re.compile(r"[\u0B80-\u0BFF]"), "tamil"),
)
_LOADING = Lock()
LANGUAGES = frozenset({ENGLISH, *_NAMES.values(), *(name for _, name in _SCRIPTS if name)})


def language_of(text: str) -> str | None:
    """The language of a piece of text; None when it is not clear. Equal texts have equal languages."""
    counts = [len(letters.findall(text)) for letters, _ in _SCRIPTS]
    most = max(counts)
    if most < MIN_LETTERS:
        return None
    if name := _SCRIPTS[counts.index(most)][1]:
        return name
    shares: Counter[str] = Counter()
    # Otherwise each of the threads that come before it is loaded loads one of its own.
    with _LOADING:
        model = _model()
    for code, share in model.rank(text):
        shares[_NAMES.get(code, code)] += share
    [(best, share)] = shares.most_common(1)
    if share < MIN_CONFIDENCE:
        return None
    return best if best in LANGUAGES else ENGLISH


def languages_of(pieces: Iterable[str]) -> list[str]:
    """The languages of a file, from pieces of its text. None of them is English."""
    letters: Counter[str] = Counter()
    for piece in pieces:
        if language := language_of(piece):
            letters[language] += len(piece)
    total = letters.total()
    found = sorted(language for language, count in letters.items() if count >= MIN_SHARE * total)
    return [] if found == [ENGLISH] else found


@cache
def _model() -> LanguageIdentifier:
    """Takes a second to load, and 90 MB."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
