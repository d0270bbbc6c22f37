"""One form for sentences that ask for the same: `In Excel, how can I …?` and `How do I … in Excel?`.

Each form is a whole pattern whose two sides have the same answer for any words in it. Words are never left out by
themselves here: `to`, `have` or `me` carry nothing in one sentence and the meaning of another.
"""

import re
from typing import Final

_REQUESTS: Final = (
    "tell|explain|show|give|describe|write|list|name|recommend|suggest|summarize|summarise|compare|define|convert|"
    "calculate|draft|create|generate|provide|find|translate|help|plan"
)
_OPENINGS: Final = re.compile(
    r"^(?:(?:hi|hello|hey|please|ok|okay|so|hallo|bitte|bonjour|hola|por favor)\b[ ,!]*)*"
    r"(?:(?:can|could|would|will) you (?:please |kindly )*(?:tell|explain|show|give|describe)(?: to)? (?:me|us)"
    r"|(?:can|could|would|will) you(?: please| kindly)* help (?:me|us)(?: to)? understand"
    r"(?= (?:how|what|why|when|who)\b)"
    r"|(?:can|could|would|will) you (?:please |kindly )*explain(?= (?:how|what|why|when|where|who)\b)"
    rf"|(?:can|could|would|will) you(?: please| kindly)*(?= (?:{_REQUESTS})\b)"
    r"|(?:please )?(?:tell|explain to|show) (?:me|us)"
    r"|(?:please )?explain(?= (?:how|what|why|when|where|who)\b)"
    r"|(?:explain|describe)(?= the (?:difference|differences|meaning)\b)"
    r"|i(?:'d| would) (?:like|love) to (?:know|understand|learn)|i (?:want|need) to (?:know|understand|learn)"
    r"|i(?: am|'m) (?:wondering|curious)|do you know(?= (?:how|what|why|when|where|who)\b)|may i ask|quick question"
    r"|(?:kannst du|können sie) mir (?:bitte )?(?:sagen|erklären)|sag mir|dis-moi|dime|скажи(?:те)?|подскажи(?:те)?|)"
    r"(?!\w)[ ,:]*"
)
_SPEAKS_OF: Final = "say says said saying for to of is are or and with mean means spell write word use using a as not"
_POLITE: Final = re.compile(
    r"[,.!?][ ,.!?]{0,8}(?:thanks|thank you|danke|merci|gracias|please|s'il (?:vous|te) plaît)[ .!?]*$|"
    + "".join(rf"(?<!\b{word})" for word in _SPEAKS_OF.split())
    + r" please[ .!?]*$"
    r"|^(?:请问|请告诉我)[,: ]*"
)
"""Not where such a word is spoken of: `the French for thank you`."""
_POLITE_WITHIN: Final = re.compile(
    r", please,?(?= )|(?<= you)(?: please| kindly)+(?= )|(?<=^was ist) bitte(?= d(?:er|ie|as) )"
)
_ASIDES: Final = re.compile(
    r"^(what|how|why|who|where|when) (?:exactly|actually|basically) (?=(?:is|are|do|does|did|can|was|were)\b)"
)
_SUBJECT: Final = "(?:i|we|one)"
_FRONTED: Final = re.compile(
    r"^((?:in|on|at) (?!(?:the|a|an|my|our|your|his|her|their|this|that)\b)[\w#+.-]+(?: \w+)?), "
    r"((?:how (?:do i|do we|can i|can we|should i|to)|what is)\b[^,;:()]*)$"
)
_ANOTHER_CLAUSE: Final = re.compile(
    r"[.!?] |\b(?:that|if|when|because|while|after|before|until|since|who|which|whether|said?|says?|think|thinks|know|"
    r"knows|and|or|but|not|only|without)\b"
)
"""What moves to the end of such a sentence may belong to another part of it than at the begin."""

_FORMS: Final = (
    (re.compile(r"\bwhat is (?:the |a )?(?:(?:best|right|correct|proper) )?(?:way|procedure) to\b"), "how to"),
    (re.compile(r"\bwhat are (?:the )?(?:ways|steps) to\b"), "how to"),
    (
        re.compile(
            rf"^what (?:can|could|should|must|do) {_SUBJECT} (?:need to |have to )?do to "
            r"(?!(?:a|an|the|my|our|your|his|her|their|its|this|that|these|those|it|him|them|you|me|us)\b)"
        ),
        "how to ",
    ),
    # Not `how do we`: `how do we die` and `how do we get cancer` ask for no way to do it.
    (re.compile(rf"^how (?:(?:can|could|should) {_SUBJECT}|do i|does one) (?=\w)"), "how to "),
    (re.compile(rf"^how (?:(?:can|could|should) not {_SUBJECT}|do not i|does not one) (?=\w)"), "how to not "),
    # How much and how long: `can` asks for a limit, `should` for advice, `do` for what is.
    (re.compile(r"^for (?=how (?:long|often|much|many)\b)"), ""),
    (re.compile(rf"^(how (?:long|often|much|many [a-z]+|much [a-z]+)) should {_SUBJECT} "), r"\1 should i "),
    (re.compile(r"^(?:what|which) ([a-z]+s) (?:do|does) (.+) have[ ?.]*$"), r"what are the \1 of \2"),
    (re.compile(r"^how many ([a-z]+) (?:do|does) (.+) have[ ?.]*$"), r"how many \1 are in \2"),
    (re.compile(r"\b(is|are) there (?=in\b)"), r"\1 "),
    (re.compile(r"^how many ([a-z]+) are there[ ?.]*$"), r"how many \1 exist"),
    (re.compile(r"^what (?:do|does) (?!it |this |that )(.+) mean[ ?.]*$"), r"what is the meaning of \1"),
    (re.compile(r"^how (?:do|does) ([^,]+ and [^,]+) differ[ ?.]*$"), r"what is the difference between \1"),
    (
        re.compile(r"^is it (safe|possible|legal|illegal|healthy|dangerous|hard|easy) to ([a-z]+) ([^,]+?)[ ?.]*$"),
        r"is \3 \1 to \2",
    ),
    (re.compile(r"^(what is (?:the )?)([a-z]+)'s ([a-z]+)[ ?.]*$"), r"\1\3 of \2"),
    (re.compile(r"^(what are the )([a-z]+)'s ([a-z]+(?: [a-z]+)?)[ ?.]*$"), r"\1\3 of the \2"),
    (re.compile(r"^how much is (?=[\d.,]+ ?(?:%|percent) of \d)"), "what is "),
    (re.compile(r"^how much is (?=(?:[$€£¥][\d.,]+|[\d.,]+ [a-z]+) in [a-z]+[ ?.]*$)"), "what is "),
    (re.compile(rf"^({_REQUESTS}) (?:me|us) "), r"\1 "),
    (re.compile(r"^explain ([^,;:]+) to (?:me|us)[ ?.!]*$"), r"explain \1"),
    (re.compile(r"^(where (?:is|are) .+) located[ ?.]*$"), r"\1"),
    (re.compile(r"^how far away (?=is|are)"), "how far "),
    (re.compile(r"\ba (?:few|little)\b"), "some"),
    (re.compile(r"^comment (?:puis-je|peut-on|je peux|faire pour) "), "comment "),
    (re.compile(r"^(¿?c[oó]mo) (?:puedo|podemos|se puede) "), r"\1 "),
)
_SHORT: Final = (
    (re.compile(r"\bcan'?t\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(what|who|how|where|when|why|that|it|there|here)'s\b"), r"\1 is"),
    (re.compile(r"'(?:re|m)\b"), " is"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"\b([ldjmcsnt]|qu)'(?=\w)"), r"\1 "),
)
_POSSESSIVE: Final = re.compile(r"(?<=\w)'s\b|(?<=s)'(?!\w)")


def in_one_form(text: str) -> str:
    """Return a case-folded sentence, of single spaces, in the form that stands for all of the same meaning."""
    plain = text
    for short, long in _SHORT:
        plain = short.sub(long, plain)
    asked = _POLITE_WITHIN.sub("", _POLITE.sub("", _OPENINGS.sub("", plain)))
    # What is left of a greeting alone is no question.
    plain = asked if " " in asked.strip() or not plain.isascii() else plain
    plain = _fronted_last(_ASIDES.sub(r"\1 ", plain).strip())
    for form, one in _FORMS:
        plain = form.sub(one, plain)
    # `the dog's bone` is not `the dogs bone`.
    return _POSSESSIVE.sub(" 's", plain)


def _fronted_last(plain: str) -> str:
    fronted = _FRONTED.match(plain)
    if fronted is None:
        return plain
    phrase, rest = fronted[1], fronted[2].rstrip(" ?.!")
    question = rest.split(" ", 1)[-1]
    return plain if _ANOTHER_CLAUSE.search(question) else f"{rest} {phrase}"
