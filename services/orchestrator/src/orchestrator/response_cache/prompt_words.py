"""The words of a prompt that may change its answer, in one spelling and in their order.

Only what is known to be harmless in its place is left out, so an unknown language costs hits and gives no wrong ones.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from orchestrator.response_cache.prompt_forms import in_one_form
from orchestrator.response_cache.prompt_quantities import join_numbers, spell_quantities, split_words

_SMALL_WORDS: Final = {
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
"""By which a language is known. They are kept as words: no word is harmless in every place."""

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
        "who": "who whom wer qui quién quiénes quien",
        "whose": "whose wessen",
        "whom": "wen",
        "to whom": "wem",
        "what": "what which was welche welcher welches quel quelle quels quelles quoi qué cuál cuáles cual cuales",
        "when": "when wann quand cuándo",
        "where": "where wo où dónde donde",
        "where to": "wohin adónde adonde",
        "where from": "woher",
        "why": "why warum wieso weshalb pourquoi",
        "how": "how wie comment cómo como",
        "how many": "wieviel wieviele combien cuánto cuántos cuánta cuántas cuanto cuantos",
    }.items()
    for word in words.split()
}
SAME: Final = {
    word: words.split()[0]
    for words in (
        "large big",
        "begin start",
        "buy purchase",
        "repair fix",
        "car automobile",
        "email e-mail",
        "tv television",
        "delete erase",
        "photo photograph",
        "telephone phone",
        "difference differ",
        "employ hire",
        "doctor physician",
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
    r"(?P<kept>```.*?```|`[^`]+`"
    r"|\"[^\"]+\"|“[^”]+”|«[^»]+»|„[^“”]+[“”]|(?<!\w)'[^']+'(?!\w))"
    r"|https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.-]+"
    r"|(?<![\w/])[~.]?(?:/[\w.-]+)+/?|\b[\w-]+\.[a-z]{2,4}\b(?!\.\w)",
    re.DOTALL,
)
_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_WORD: Final = re.compile(
    rf"[{_CJK}]|\d{{4}}-\d\d-\d\d|date-\d\d-\d\d|\d+(?:[.,:/]\d+)*\w*|[^\W_{_CJK}]+(?:-[^\W_]+)*"
    r"| ?[.!?…。]+$|[,;:.!?…()。、]+|(?<=\s)[-\u2013\u2014]+(?=\s)"
)
_END: Final = re.compile(r"[.!?…。]+$")
_SYMBOLS: Final = re.compile(r"[^\w\s.,;:!?'\"()’‘“”„«»`\-\u2013\u2014¿¡。,？！、…]|(?<!\w)[-.]+(?=\w)|!=|_")
_ACRONYM: Final = re.compile(r"\b[A-Z][A-Z0-9]{1,5}\b")
_UMLAUTS: Final = str.maketrans({"’": "'", "‘": "'", "\u2010": "-", "\u2011": "-", "\u2212": "-", "\u00a0": " "})
_DETERMINERS: Final = {"a": "a", "an": "a", "the": "the", "my": "my", "our": "our"}
_AFTER_NO_DETERMINER: Final = frozenset(
    split_words("in of to for and or is are was were on at by with from do does have has , ; : . ! ? ( )")
)
_AGREEMENT: Final = {"are": "is", "am": "is", "does": "do", "has": "have", "were": "was"}
_ANY_NUMBER: Final = frozenset({"how", "how many", "why", "when", "where", "yes or no"})
"""Questions of which `a dog` and `dogs` are equal. Of others, one thing is asked for or several."""


class PromptWords(NamedTuple):
    """What two prompts are compared by."""

    words: tuple[str, ...]
    """In their order, in one spelling, with the marks between them, without articles."""
    forms: tuple[str, ...]
    """Each of `words` as it is written: plural or not."""
    determiners: tuple[str, ...]
    """What stands before each of `words`: `a`, `the`, `my`, `our` or nothing."""
    names: tuple[str, ...]
    """Of `words`, those that are written as names, in their order."""
    verbatim: tuple[str, ...]
    """Addresses, codes, file names and quotations, as they are written."""
    symbols: tuple[str, ...]
    """Operators and pictures: `<` and `>` differ."""
    language: str
    """By its small words, as in `en`; empty if they do not tell."""
    question: str
    """Its kind: who, what, what is, …; `yes or no`; empty for a sentence that is no question by its begin."""


def read_words(prompt: str) -> PromptWords:
    """Return what an answer depends on."""
    text = unicodedata.normalize("NFKC", prompt).translate(_UMLAUTS)
    verbatim = tuple(_verbatim_of(found) for found in _VERBATIM.finditer(text))
    text = _VERBATIM.sub(" quotedtext ", text)
    acronyms = frozenset() if text.isupper() else frozenset(word.casefold() for word in _ACRONYM.findall(text))
    names = _names(text)
    plain = in_one_form(spell_quantities(" ".join(text.casefold().split())))
    symbols = tuple(_SYMBOLS.findall(plain))
    raw = _WORD.findall(plain)
    language = _language_of(raw)
    joined = join_numbers(_without_end(raw, language), language)
    if language == "en":
        joined = [word if word in acronyms else _AGREEMENT.get(word, word) for word in joined]
    question, joined = _question(joined, language)
    words, determiners = _apart(joined, acronyms) if language == "en" else (joined, [""] * len(joined))
    if language in {"", "en"}:
        words = [SAME.get(one, one) for one in words]
    forms = tuple(words)
    if question.removesuffix(" is") in _ANY_NUMBER:
        words = [SAME.get(one, one) for one in map(_singular, words)]
    named = tuple(word for word in words if word in names)
    return PromptWords(tuple(words), forms, tuple(determiners), named, verbatim, symbols, language, question)


def _verbatim_of(found: re.Match[str]) -> str:
    """A mark at the end of an address ends its sentence; one at the end of a quotation may be what is asked about."""
    return found[0].strip("`\"“”„«»'") if found["kept"] else found[0].rstrip(".,;:?!)")


def _without_end(words: list[str], language: str) -> list[str]:
    """Leave out the mark that ends a sentence, and the comma before the last of several."""
    if len(words) > 1 and _END.search(words[-1]) and (language == "fr" or not words[-1].startswith(" ")):
        words = words[:-1]
    kept = [
        word
        for place, word in enumerate(words)
        if not (word == "," and "," in words[:place] and words[place + 1 : place + 2] in (["and"], ["or"]))
    ]
    return [word.strip() for word in kept]


def _apart(words: Sequence[str], acronyms: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return the words without articles, and what stood before each. The `a` of a vitamin is a word."""
    kept: list[str] = []
    determiners: list[str] = []
    before = ""
    for place, word in enumerate(words):
        is_last = place + 1 == len(words) or words[place + 1] in _AFTER_NO_DETERMINER
        if word in _DETERMINERS and word not in acronyms and not is_last:
            before = _DETERMINERS[word]
            continue
        kept.append(word)
        determiners.append(before)
        before = ""
    return kept, determiners


def _language_of(words: Sequence[str]) -> str:
    """Return the language whose small words are the most; empty if there are none, or as many of two."""
    counts = sorted(
        ((sum(word in small for word in words), name) for name, small in _SMALL_WORDS.items()), reverse=True
    )
    return counts[0][1] if counts[0][0] > counts[1][0] else ""


def _names(text: str) -> frozenset[str]:
    """Return words with a capital that begin no sentence."""
    found = re.finditer(r"(?<![.!?\n] )(?<!^)\b[^\W\d_a-z][\w-]*", text)
    names = {match[0].casefold() for match in found if match[0][0].isupper()}
    return frozenset(names | {_singular(name) for name in names}) - {"i"}


_ASKING: Final = frozenset(
    split_words("is are am was were do does did can could should will would has have had may must")
)


def _question(words: list[str], language: str) -> tuple[str, list[str]]:
    """Return the kind of a question, and the words without that which says so.

    `is` is a part of the kind, so that its place does not matter: `why is the sky blue`, `why the sky is blue`.
    """
    if not words:
        return "", words
    if words[0] in _ASKING and language != "de":
        return "yes or no", words
    kind = QUESTIONS.get(words[0])
    if kind is None or (words[0] == "was" and language != "de"):
        return "", words
    rest = words[1:]
    if kind in {"how", "why", "when", "where", "what"} and language in {"en", ""}:
        if rest.count("is") == 1 and (kind != "what" or "is" in (rest[0], rest[-1])):
            rest.remove("is")
            return f"{kind} is", rest
        if rest[:1] == ["do"] and kind != "what":
            rest = rest[1:]
    return kind, rest


def _singular(word: str) -> str:
    if len(word) < 4 or word in _NO_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]
