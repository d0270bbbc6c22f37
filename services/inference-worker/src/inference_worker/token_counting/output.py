"""The texts that a model wrote, taken out of the payloads of its response."""

from collections.abc import Iterator, Sequence

from inference_worker.token_counting.messages import (
    REASONING_FIELDS,
    Field,
    Uncountable,
    message_texts,
    parse_object,
)

EXTRACT_AFTER_BYTES = 256 * 1024
"""Payloads are kept as they came up to this size; beyond it only their text is kept."""

MAX_TEXT_CHARACTERS = 4 * 1024 * 1024
"""Longest output that is kept, and so can be counted."""

MAX_TEXTS = 1024
"""Texts of one output: for each choice one per field and tool call."""


class OutputText:
    """The texts of a response so far, in bounded memory and parsed only when needed."""

    __slots__ = ("_characters", "_payload_bytes", "_payloads", "_pieces", "_uncountable")

    def __init__(self) -> None:
        self._payloads: list[bytes] = []
        self._payload_bytes = 0
        self._pieces: dict[Field, list[str]] = {}
        self._characters = 0
        self._uncountable = False

    def add(self, payloads: Sequence[bytes]) -> None:
        """Keep payloads that were forwarded to the client."""
        self._payloads.extend(payloads)
        self._payload_bytes += sum(map(len, payloads))
        if self._payload_bytes > EXTRACT_AFTER_BYTES:
            self._extract()

    def texts(self) -> list[str] | None:
        """Return all texts, each whole; None when something was no text, or it was too long to keep."""
        self._extract()
        return None if self._uncountable else ["".join(pieces) for pieces in self._pieces.values()]

    @property
    def has_reasoning(self) -> bool:
        """Whether the model showed how it reasoned."""
        self._extract()
        return any(name in field for field in self._pieces for name in REASONING_FIELDS)

    def _extract(self) -> None:
        payloads, self._payloads, self._payload_bytes = self._payloads, [], 0
        if self._uncountable:
            return
        try:
            for payload in payloads:
                self._take(payload)
        except Uncountable:
            self._uncountable = True
            self._pieces.clear()

    def _take(self, payload: bytes) -> None:
        for field, text in output_texts(payload):
            self._pieces.setdefault(field, []).append(text)
            self._characters += len(text)
        if self._characters > MAX_TEXT_CHARACTERS or len(self._pieces) > MAX_TEXTS:
            raise Uncountable("the output is too long to keep")


def output_texts(payload: bytes) -> Iterator[tuple[Field, str]]:
    """Yield the texts in one payload, a completion or a chunk of one, with the choice and the field they belong to.

    Raises `Uncountable` when it holds anything that is not text.
    """
    choices = parse_object(payload).get("choices") or []
    if not isinstance(choices, list):
        raise Uncountable("the choices are not a list")
    for position, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise Uncountable("a choice is not an object")
        number = str(choice.get("index", position))
        for name in ("delta", "message"):
            message = choice.get(name) or {}
            if not isinstance(message, dict):
                raise Uncountable("a message is not an object")
            for field, text in message_texts(message):
                yield (number, *field), text
        if choice.get("text"):
            if not isinstance(choice["text"], str):
                raise Uncountable("a text is not a string")
            yield (number, "text"), choice["text"]
