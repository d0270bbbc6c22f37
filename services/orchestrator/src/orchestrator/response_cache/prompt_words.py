"""The words of a prompt that may change its answer, in one spelling.

Left out are words that no answer depends on, in some languages. A word that is not known to be such is kept, so an
unknown language costs hits and gives no wrong ones.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from orchestrator.response_cache.prompt_quantities import join_numbers, spell_quantities, split_words

NEUTRAL: Final = {
    "en": frozenset(
        split_words(
            "a an the of in to and i me my mine we our us is are am be been being do does it its this that there "
            "here have has please kindly just really so then also exactly actually basically would shall"
        )
    ),
    "de": frozenset(
        split_words(
            "der die das den dem des ein eine einen einem einer eines und ist sind bin im in am an auf für bitte "
            "ich mir mich mein meine meinen meinem meiner wir uns unser sie man es denn mal doch kann können "
            "könnte zu"
        )
    ),
    "fr": frozenset(
        split_words(
            "le la les l un une des du de d et est sont suis en dans pour svp je j me m mon ma mes nous notre on "
            "c ce il y peux peut puis-je peux-je qu que"
        )
    ),
    "es": frozenset(
        split_words(
            "el la los las un una unos unas y es son está están en de del para por favor yo me mi mis "
            "nosotros nuestro se puedo puede que"
        )
    ),
}
NEGATIONS: Final = frozenset(
    split_words(
        "not no never none nobody nothing nowhere neither nor without cannot lacking except unless hardly "
        "nicht kein keine keinen keinem keiner nie niemals ohne nichts ne pas sans jamais aucun aucune rien "
        "sin nunca ningún ninguna nada jamás tampoco non senza mai não sem нет не без 不 没 没有 无 未 非"
    )
)
QUESTIONS: Final = {
    word: kind
    for kind, words in {
        "who": "who whom whose wer wen wem qui quién quiénes quien",
        "what": "what which was welche welcher welches quel quelle quels quelles quoi qué cuál cuáles cual cuales",
        "when": "when wann quand cuándo",
        "where": "where wo wohin woher où dónde donde",
        "why": "why warum wieso weshalb pourquoi",
        "how": "how wie comment cómo como",
        "how many": "wieviel wieviele combien cuánto cuántos cuánta cuántas cuanto cuantos",
    }.items()
    for word in words.split()
}
_OPENINGS: Final = re.compile(
    r"^(?:(?:hi|hello|hey|please|ok|okay|so|hallo|bitte|bonjour|hola|por favor)\b[ ,!]*)*"
    r"(?:(?:can|could|would|will) you (?:please )?(?:tell|explain|show|give|describe)(?: to)? ?(?:me|us)?"
    r"|(?:can|could|would|will) you (?:please )?(?=\w)"
    r"|(?:please )?(?:tell|explain to|show) (?:me|us)"
    r"|(?:please )?(?:explain|describe) (?=how|what|why|when|where|who)"
    r"|i(?:'d| would) (?:like|love) to (?:know|understand|learn)|i (?:want|need) to (?:know|understand|learn)"
    r"|i(?: am|'m) (?:wondering|curious)|do you know|any idea|may i ask|quick question|)\b[ ,:]*"
)
_THANKS: Final = re.compile(r"[ ,.!]*\b(?:thanks|thank you|danke|merci|gracias|s'il (?:vous|te) plaît)[ .!]*$")
_WAYS: Final = re.compile(r"\bwhat(?: is|'s| are) (?:the|a) (?:ways?|steps|procedure) (?:to|for|of)\b")
_SHORT: Final = (
    (re.compile(r"\bcan'?t\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(what|who|how|where|when|why|that|it|there|here)'s\b"), r"\1 is"),
    (re.compile(r"'(?:re|m)\b"), " is"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"(?<=\w)'s\b|(?<=s)'(?!\w)"), ""),
    (re.compile(r"\b([ldjmcsnt]|qu)'(?=\w)"), r"\1 "),
)
SAME: Final = {
    word: words.split()[0]
    for words in (
        "large big",
        "begin start",
        "buy purchase",
        "fast quick quickly",
        "repair fix",
        "movie film",
        "car automobile",
        "email e-mail",
        "tv television",
        "delete erase",
        "photo photograph",
        "telephone phone",
        "difference differ",
        "error mistake",
        "job occupation",
        "employ hire",
        "doctor physician",
        "assist aid",
        "colour color",
        "organise organize",
        "summarise summarize",
        "analyse analyze",
        "centre center",
        "favourite favorite",
        "maximum max",
        "minimum min",
        "versus vs than",
        "kid child",
        "log-in login",
    )
    for word in words.split()
}
_NO_PLURAL: Final = frozenset(
    split_words(
        "news goods customs glasses always sometimes perhaps besides physics ethics politics sports savings "
        "series species states windows was has does this yes plus minus versus status campus bonus virus "
        "analysis basis gas bus process access address less unless across les des los las"
    )
)
_VERBATIM: Final = re.compile(
    r"```.*?```|`[^`]+`|https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.-]+"
    r"|\"[^\"]+\"|“[^”]+”|«[^»]+»|„[^“”]+[“”]|(?<!\w)'[^']+'(?!\w)"
    r"|(?<![\w/])[~.]?(?:/[\w.-]+)+/?|\b[\w-]+\.[a-z]{2,4}\b(?!\.\w)",
    re.DOTALL,
)
_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_WORD: Final = re.compile(rf"[{_CJK}]|\d{{4}}-\d\d-\d\d|date-\d\d-\d\d|\d+(?:[.,:/]\d+)*\w*|[^\W_{_CJK}]+(?:-[^\W_]+)*")
_SYMBOLS: Final = re.compile(r"[^\w\s.,;:!?'\"()’‘“”„«»`\-\u2013\u2014¿¡。,？！、…]|(?<!\w)-(?=\d)|!=")
_ACRONYM: Final = re.compile(r"\b[A-Z][A-Z0-9]{1,5}\b")
_UMLAUTS: Final = str.maketrans({"’": "'", "‘": "'", "\u2010": "-", "\u2011": "-", "\u2212": "-", "\u00a0": " "})


class PromptWords(NamedTuple):
    """What two prompts are compared by."""

    words: tuple[str, ...]
    """In their order, in one spelling, without those that no answer depends on."""
    names: tuple[str, ...]
    """Of `words`, those that are written as names, in their order."""
    verbatim: tuple[str, ...]
    """Addresses, codes, file names and quotations, as they are written."""
    symbols: tuple[str, ...]
    """Operators and pictures: `<` and `>` differ."""
    language: str
    """By its small words, as in `en`; empty if they do not tell."""
    question: str
    """Its kind: who, what, …; `yes or no`; empty for a sentence that is no question by its words."""


def read_words(prompt: str) -> PromptWords:
    """Return what an answer depends on."""
    text = unicodedata.normalize("NFKC", prompt).translate(_UMLAUTS)
    verbatim = tuple(found.strip("`\"“”„«»'").rstrip(".,;:?!)") for found in _VERBATIM.findall(text))
    text = _VERBATIM.sub(" quotedtext ", text)
    acronyms = frozenset() if text.isupper() else frozenset(word.casefold() for word in _ACRONYM.findall(text))
    names = _names(text)
    plain = " ".join(text.casefold().split())
    plain = spell_quantities(_WAYS.sub("how to", _THANKS.sub("", _OPENINGS.sub("", plain))))
    for short, long in _SHORT:
        plain = short.sub(long, plain)
    symbols = tuple(_SYMBOLS.findall(plain))
    raw = _WORD.findall(plain)
    language = _language_of(raw)
    question, raw = _question(raw, language)
    neutral = NEUTRAL[language or "en"]
    kept = (word for word in join_numbers(raw) if word in acronyms or word not in neutral)
    words = tuple(SAME.get(one, one) for one in map(_singular, kept))
    named = tuple(word for word in words if word in names)
    return PromptWords(words, named, verbatim, symbols, language, question)


def _language_of(words: Sequence[str]) -> str:
    """Return the language whose small words are the most; empty if there are none, or as many of two."""
    counts = sorted(((sum(word in small for word in words), name) for name, small in NEUTRAL.items()), reverse=True)
    return counts[0][1] if counts[0][0] > counts[1][0] else ""


def _names(text: str) -> frozenset[str]:
    """Return words with a capital that begin no sentence. German nouns are among them: their order counts, too."""
    found = re.finditer(r"(?<![.!?\n] )(?<!^)\b[^\W\d_a-z][\w-]*", text)
    return frozenset(_singular(match[0].casefold()) for match in found if match[0][0].isupper())


_ASKING: Final = frozenset(
    split_words("is are am was were do does did can could should will would has have had may must")
)


def _question(words: list[str], language: str) -> tuple[str, list[str]]:
    """Return the kind of a question, and the words without it. `can` matters where it is the question."""
    if not words:
        return "", words
    german = language == "de"
    if words[0] in _ASKING and not german:
        first = [] if words[0] in {"is", "are", "am", "do", "does", "has", "have"} else words[:1]
        return "yes or no", first + words[1:]
    for place, word in enumerate(words):
        kind = QUESTIONS.get(word)
        if kind is not None and (german or word != "was"):
            rest = words[:place] + words[place + 1 :]
            if kind == "how":
                rest = [one for one in rest if one not in {"can", "could", "should", "one"}]
            return kind, rest
    return "", words


def _singular(word: str) -> str:
    if len(word) < 4 or word in _NO_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]
