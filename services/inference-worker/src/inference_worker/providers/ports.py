"""What the domain needs from the outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import ArgosyError

from inference_worker.domain.account import Attempt
from inference_worker.domain.plan import Candidate
from inference_worker.domain.usage import Usage


class Answer(Protocol):
    """A provider's answer, read as it comes."""

    @property
    def usage(self) -> Usage | None:
        """What the provider has said so far about tokens; a missing part is None."""

    @property
    def usage_payload(self) -> bytes:
        """The last streamed payload if it held nothing but usage, else empty. It is not read as a payload."""

    async def read(self) -> Sequence[bytes]:
        """Wait for the next payloads, all that arrived together; empty at the end of a whole answer.

        Raises an `UpstreamFailed`. Reads from the network only while it is awaited, so that a slow caller
        slows the provider down.
        """

    def abort(self) -> None:
        """Break off whatever is left of it, at once. Safe to repeat, and after the end."""


class Provider(Protocol):
    """One upstream that answers chat completions."""

    async def open(self, candidate: Candidate, *, stream: bool) -> Answer:
        """Send the candidate's body and wait until the upstream begins to answer.

        Raises an `UpstreamFailed`. A cancelled `open` leaves nothing open.
        """


@dataclass(frozen=True, slots=True)
class Vectors:
    """Little-endian 32-bit floats, one vector per text, and the tokens that were read if the upstream said so."""

    vectors: tuple[bytes, ...]
    usage: Usage | None


class Embedder(Protocol):
    """One upstream that turns texts into vectors."""

    async def embed(self, model: str, texts: Sequence[str], *, dimensions: int | None) -> Vectors:
        """Embed every text, in order. Raises an `UpstreamFailed`, or `InvalidRequest` for impossible dimensions."""


class TokenCounter(Protocol):
    """Counts tokens when an upstream does not say."""

    async def count(self, texts: Sequence[str]) -> int | None:
        """Tokens of all texts together; None when this upstream's tokenizer is not known."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What a configured upstream can do."""

    counter: TokenCounter
    provider: Provider | None = None
    embedder: Embedder | None = None


Upstreams = Mapping[str, Upstream]


class Entry(Protocol):
    """One attempt in the journal."""

    def ended(self, attempt: Attempt, failure: ArgosyError | None) -> None:
        """Write down how it ended. Called exactly once, in the task that began it."""


class Journal(Protocol):
    """Where attempts are written down for people: metrics, traces, logs. Never raises."""

    def began(self, candidate: Candidate, number: int) -> Entry:
        """An attempt begins."""
