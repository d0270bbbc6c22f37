"""The tokens of a PromQL expression."""

import re
from dataclasses import dataclass
from typing import Final


class PromqlError(Exception):
    """The expression cannot be evaluated, or would give nothing; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # word, number, string, operator or end
    text: str


_TOKEN: Final = re.compile(
    r"""\s*(?:\#[^\n]*\n?\s*)*(?:
      (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?:(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)?)
    | (?P<word>[A-Za-z_][\w:]*)
    | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    | (?P<operator>=~|!~|==|!=|>=|<=|[-+*/%^<>=(){}\[\],@:])
    )""",
    re.VERBOSE,
)
END: Final = Token("end", "")


def tokenize(text: str) -> list[Token]:
    """Raises PromqlError at a character that begins no token."""
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise PromqlError(f"{text[at : at + 20]!r} is not PromQL")
        tokens.append(Token(found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return [*tokens, END]


class TokenReader:
    """Reads tokens one by one."""

    def __init__(self, text: str) -> None:
        self._tokens = tokenize(text)
        self._at = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def take(self) -> Token:
        token = self.next
        if token is not END:
            self._at += 1
        return token

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of these; keywords in any case."""
        if self.next.kind in {"word", "operator"} and self.next.text.lower() in texts:
            return self.take().text.lower()
        return None

    def expect(self, text: str) -> None:
        if self.accept(text) is None:
            raise PromqlError(f"{text!r} is missing before {self.next.text or 'the end'!r}")
