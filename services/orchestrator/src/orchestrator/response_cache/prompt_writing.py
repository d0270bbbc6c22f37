"""How a prompt is written, where that may change its answer: capitals, marks between numbers, texts to work on.

Embedding models read no case and few marks, so nothing else tells `5 mW` from `5 MW`. What is compared here costs hits
where two spellings mean the same, and gives no wrong answer.
"""

import re
from collections import Counter
from typing import Final, NamedTuple

from orchestrator.response_cache.known_names import ALWAYS_NAMES
from orchestrator.response_cache.prompt_quantities import split_words

_WORD: Final = re.compile(r"[^\W_][\w]*(?:['’.-][\w]+)*")
_ENDS_SENTENCE: Final = frozenset(".!?¿¡\n")
_CALCULATES: Final = re.compile(r"\d|[=<>^+*/|√∑∫²³¹⁰-₟¼-¾⅐-⅞]")
_COMPOUND: Final = re.compile(r"(?<=\d)-(?=[^\W\d_]{3})")
_HOW_TO: Final = re.compile(r"how (?:do i|do we|can i|can we|should i|to) ", re.IGNORECASE)
_CURRENCIES: Final = frozenset({"USD", "EUR", "GBP", "JPY"})
_MARKS: Final = re.compile(
    r"\d[\d.,:/]*\d|\d|[()\[\]{}!+*/^=<>|²³¹⁰-₟¼-¾⅐-⅞]|(?<=\b\w)['’′]|(?<![^\W\d])[-\u2013\u2212]|[-\u2013\u2212](?![^\W\d])"
)
_TEXT_TASKS: Final = frozenset(
    split_words(
        "translate correct proofread count reverse spell capitalize capitalise uppercase lowercase repeat "
        "punctuation punctuate character "
        "characters syllable syllables anagram palindrome rhyme rhymes pronounce grammar word words "
        "übersetze übersetzen korrigiere zähle buchstabiere wiederhole wort wörter satz buchstaben "
        "traduis traduire corrige compte épelle répète mot mots phrase lettres "
        "traduce traducir corregir cuenta deletrea repite palabra palabras frase letras"
    )
)
_TEXTS: Final = frozenset(split_words("letter letters sentence sentences text texts rewrite rephrase paraphrase"))
"""What is worked on, too, but not where a way to do it is asked for: `How do I write a cover letter?`"""
_WORKS_ON_MESSAGES: Final = tuple(
    split_words(
        "translat proofread rewrit rephras paraphras summari classif sentiment extract repeat transcrib transcript "
        "revers anagram rhym verbatim grammar spell pronounc capitaliz capitalis correct übersetz korrigier tradu "
        "corrig перевед перевод исправ ترجم 翻译 翻訳 校正 번역"
    )
)
_WORKS_ON_LETTERS: Final = re.compile(r"\b(?:echo|counts?|counting|each (?:word|letter|character))\b")


class Writing(NamedTuple):
    """What two prompts of the same words are compared by."""

    capitals: Counter[str]
    """Words with a capital that begin no sentence, as they are written."""
    marks: tuple[str, ...]
    """Numbers, brackets and operators in their order; empty for a prompt that calculates nothing."""
    text: str
    """All of it, where it may be a text to work on: then each letter counts, and each space. Else empty."""


def works_on_messages(instructions: str) -> bool:
    """Whether instructions may ask to work on a later message itself, so that each of its letters counts.

    `You are a translator` answers `How do I …?` and `How can I …?` differently.
    """
    text = instructions.casefold()
    return any(word in text for word in _WORKS_ON_MESSAGES) or _WORKS_ON_LETTERS.search(text) is not None


def read_writing(prompt: str) -> Writing:
    """Return how a prompt is written."""
    prompt = prompt.replace("’", "'").strip()
    words = list(_WORD.finditer(prompt))
    ends = [0, *(word.end() for word in words)]
    capitals = Counter(
        _capital_form(word[0])
        for end, word in zip(ends, words, strict=False)
        if word[0] != word[0].lower()
        and word[0] not in _CURRENCIES
        and word[0].split("'")[0] != "I"
        and word[0].lower().removesuffix("'s") not in ALWAYS_NAMES
        and not _begins_sentence(prompt[end : word.start()], is_first=not end)
    )
    return Writing(capitals, _marks_of(prompt), _text_of(prompt, {word[0].lower() for word in words}))


def _begins_sentence(gap: str, *, is_first: bool) -> bool:
    """Whether a word begins a sentence; `gap` is all between it and the word before: marks, spaces and underscores."""
    before = gap.rpartition("_")
    return (is_first and not before[1]) or not _ENDS_SENTENCE.isdisjoint(before[2])


def _capital_form(word: str) -> str:
    return word.removesuffix("'s")


def _marks_of(prompt: str) -> tuple[str, ...]:
    if not _CALCULATES.search(prompt):
        return ()
    marks = tuple(_MARKS.findall(_COMPOUND.sub(" ", prompt.rstrip(" .!?"))))
    # Where there are only whole numbers, words have them in their order, and may spell them out.
    return () if all(mark.isdecimal() for mark in marks) else marks


def _text_of(prompt: str, words: set[str]) -> str:
    if "\n" in prompt:
        return prompt  # its spaces may be those of a program
    is_task = not words.isdisjoint(_TEXT_TASKS) or (not words.isdisjoint(_TEXTS) and not _HOW_TO.match(prompt))
    return prompt if is_task or ": " in prompt else ""
