"""How a prompt is written, where that may change its answer: capitals, marks between numbers, texts to work on.

Embedding models read no case and few marks, so nothing else tells `5 mW` from `5 MW`. What is compared here costs hits
where two spellings mean the same, and gives no wrong answer.
"""

import re
from collections import Counter
from typing import Final, NamedTuple

from orchestrator.response_cache.prompt_quantities import split_words

_WORD: Final = re.compile(r"[^\W_][\w]*(?:['’.-][\w]+)*")
_BEGINS_SENTENCE: Final = re.compile(r"(?:^|[.!?¿¡\n]\s*)\W*$")
_CALCULATES: Final = re.compile(r"\d|[=<>^+*/|√∑∫]")
_MARKS: Final = re.compile(
    r"\d[\d.,:/]*\d|\d|[()\[\]{}!+*/^=<>|%]|(?<=\b\w)['’′]|(?<![^\W\d])[-\u2013\u2212]|[-\u2013\u2212](?![^\W\d])"
)
_TEXT_TASKS: Final = frozenset(
    split_words(
        "translate correct fix proofread count reverse spell capitalize capitalise uppercase lowercase rewrite "
        "rephrase paraphrase summarize summarise shorten repeat punctuation punctuate letter letters character "
        "characters syllable syllables anagram palindrome rhyme rhymes pronounce grammar word words sentence text "
        "übersetze übersetzen korrigiere zähle buchstabiere wiederhole wort wörter satz buchstaben "
        "traduis traduire corrige compte épelle répète mot mots phrase lettres "
        "traduce traducir corregir cuenta deletrea repite palabra palabras frase letras"
    )
)


class Writing(NamedTuple):
    """What two prompts of the same words are compared by."""

    capitals: Counter[str]
    """Words with a capital that begin no sentence, as they are written."""
    marks: tuple[str, ...]
    """Numbers, brackets and operators in their order; empty for a prompt that calculates nothing."""
    text: str
    """All of it, where it may be a text to work on: then each letter counts. Else empty."""


def read_writing(prompt: str) -> Writing:
    """Return how a prompt is written."""
    words = list(_WORD.finditer(prompt))
    capitals = Counter(
        word[0]
        for word in words
        if word[0] != word[0].lower() and word[0] != "I" and not _BEGINS_SENTENCE.search(prompt[: word.start()])
    )
    marks = tuple(_MARKS.findall(prompt.rstrip(" .!?"))) if _CALCULATES.search(prompt) else ()
    is_text = ": " in prompt or ":\n" in prompt or any(word[0].lower() in _TEXT_TASKS for word in words)
    return Writing(capitals, marks, " ".join(prompt.split()) if is_text else "")
