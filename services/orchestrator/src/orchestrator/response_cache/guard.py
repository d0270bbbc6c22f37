"""Whether two prompts that are near by their embeddings ask for the same.

An embedding hardly sees a number, a `not`, or who did what to whom. So a stored answer is only given when the words of
both prompts are the same but for their form, and so are the capitals, marks and texts that may change an answer
(`prompt_writing`): what differs and is not known to be harmless is a difference.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Final
from unicodedata import normalize

from orchestrator.response_cache.prompt_quantities import is_quantity, is_unit, split_words
from orchestrator.response_cache.prompt_words import NEGATIONS, PromptWords, read_words
from orchestrator.response_cache.prompt_writing import read_writing

MAX_PROMPT_CHARACTERS: Final = 2_000
"""A longer prompt is a text to work on rather than a question, and the model embeds only its beginning."""


class Difference(StrEnum):
    """Why a stored answer is not given."""

    LENGTH = "length"
    VERBATIM = "verbatim"
    SYMBOLS = "symbols"
    NUMBERS = "numbers"
    NEGATION = "negation"
    OPPOSITES = "opposites"
    NAMES = "names"
    LANGUAGE = "language"
    QUESTION = "question"
    ORDER = "order"
    WORDS = "words"


_OPPOSITES: Final = frozenset(
    frozenset(pair.split("/"))
    for pair in (
        split_words(
            "increase/decrease before/after buy/sell maximum/minimum more/less open/close up/down above/below "
            "left/right enable/disable install/uninstall add/delete add/remove best/worst highest/lowest "
            "first/last 1st/last allow/deny legal/illegal safe/unsafe possible/impossible true/false "
            "import/export encrypt/decrypt north/south east/west cheap/expensive old/new earliest/latest "
            "fast/slow hot/cold lend/borrow begin/stop begin/end in/out on/off male/female pro/con "
            "advantage/disadvantage gain/lose win/lose inside/outside upload/download lock/unlock "
            "internal/external subscribe/unsubscribe hire/fire employ/fire push/pull with/without from/to "
            "since/until most/least always/never all/some all/none upgrade/downgrade accept/reject "
            "include/exclude"
        )
    )
)
_PREFIXES: Final = ("un", "in", "im", "ir", "il", "dis", "non", "mis", "de", "non-", "anti", "anti-")
_QUESTIONS_WITH_VERBS: Final = frozenset({"how", "why", "when", "where"})
_BEGIN_IDIOMS: Final = frozenset({"in", "at", "on", "by", "out", "under"})
"""After these an article changes the meaning also of a way to do something: `in place`, `in the place`."""


def is_long(prompt: str) -> bool:
    """Whether a prompt is too long to be compared, as it is or as it is read: one letter may stand for 18."""
    return len(prompt) > MAX_PROMPT_CHARACTERS or len(normalize("NFKC", prompt)) > MAX_PROMPT_CHARACTERS


def difference(stored: str, asked: str) -> Difference | None:
    """Return what keeps the answer of the one prompt from the other; None if nothing that can be seen does."""
    if stored == asked:
        return None
    if is_long(stored) or is_long(asked):
        return Difference.LENGTH
    one, other = read_words(stored), read_words(asked)
    if one.verbatim != other.verbatim:
        return Difference.VERBATIM
    if one.symbols != other.symbols:
        return Difference.SYMBOLS
    found = _word_difference(one, other)
    if found is None and one.words != other.words:
        found = Difference.ORDER
    return found or _noun_difference(one, other) or _writing_difference(stored, asked)


def _word_difference(one: PromptWords, other: PromptWords) -> Difference | None:
    left, right = Counter(one.words), Counter(other.words)
    only_left, only_right = left - right, right - left
    changed = [*only_left, *only_right]
    if len({one.language, other.language} - {""}) > 1:
        return Difference.LANGUAGE
    if any(is_quantity(word) or is_unit(word) for word in changed):
        return Difference.NUMBERS
    if any(word in NEGATIONS for word in changed):
        return Difference.NEGATION
    if _are_opposites(only_left, only_right):
        return Difference.OPPOSITES
    if any(word in one.names or word in other.names for word in changed):
        return Difference.NAMES
    return _question_difference(one, other) or (Difference.WORDS if changed else None)


def _are_opposites(left: Iterable[str], right: Iterable[str]) -> bool:
    for a in left:
        for b in right:
            short, long = sorted((a, b), key=len)
            if frozenset((a, b)) in _OPPOSITES or any(long == prefix + short for prefix in _PREFIXES):
                return True
    return False


def _question_difference(one: PromptWords, other: PromptWords) -> Difference | None:
    kinds = {one.question, other.question}
    # `Capital of France?` asks what it is.
    return None if len(kinds) == 1 or kinds == {"", "what is"} else Difference.QUESTION


def _noun_difference(one: PromptWords, other: PromptWords) -> Difference | None:
    """`the matter` is not `matter`, nor `my name` a name, nor `spirits` spirit; but `a dog` and `dogs` are equal."""
    is_way = one.question == "how" and one.words[:1] == ("to",)
    has_verbs = one.question in _QUESTIONS_WITH_VERBS and not is_way
    before = ""
    for place, word in enumerate(one.words):
        articles = {one.determiners[place], other.determiners[place]}
        is_plural = one.forms[place] != other.forms[place]
        # `how photosynthesis works`, `how does photosynthesis work`: what is no subject may be a verb.
        is_any_number = is_plural and articles == {"", "a"}
        if is_plural and not is_any_number and not (has_verbs and place):
            return Difference.WORDS
        # `Population of Brazil?` is short for `the`.
        is_short = not place and "a" not in articles and "of" in one.words[1:3]
        is_idiom = before in _BEGIN_IDIOMS and "" in articles
        matters = not is_way or "a" in articles or is_idiom
        if len(articles) > 1 and matters and not is_any_number and not is_short:
            return Difference.WORDS
        before = word
    return None


def _writing_difference(stored: str, asked: str) -> Difference | None:
    one, other = read_writing(stored), read_writing(asked)
    if one.text != other.text:
        return Difference.VERBATIM
    if one.marks != other.marks:
        return Difference.SYMBOLS
    return Difference.NAMES if one.capitals != other.capitals else None
