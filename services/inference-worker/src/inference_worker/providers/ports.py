"""What plans, embeddings and scores need from a provider."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from values.embeddings import EmbeddingInput
from values.usage import TokenUsage

from inference_worker.providers.credentials import NO_CREDENTIALS, Credential, Credentials
from inference_worker.providers.model import Embeddings, Scores
from inference_worker.token_counting.model import TokenCounter


class Completion(Protocol):
    """A provider's response to one chat completion, read as it arrives."""

    @property
    def usage(self) -> TokenUsage | None:
        """The usage that the provider has reported so far; a count that is missing is None."""

    @property
    def usage_payload(self) -> bytes:
        """The last streamed payload if it held nothing but usage, else empty. `read` does not return it."""

    async def read(self) -> Sequence[bytes]:
        """Wait for the next payloads and return all that arrived together; empty at the end.

        Raises an `UpstreamFailed`. Reads from the network only while it is awaited, so that a slow client
        slows the provider down.
        """

    def abort(self) -> None:
        """Close the response if it has not ended. May be called again, and after the end."""


class Provider(Protocol):
    """Chat completions of one upstream."""

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Credential | None = None) -> Completion:
        """Send `body`, an OpenAI chat completion request, and wait until the response begins.

        Without a credential the upstream gets those of its settings.

        Raises an `UpstreamFailed`. When it is cancelled it leaves no connection open.
        """


class Embedder(Protocol):
    """Embeddings of one upstream."""

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        /,
        *,
        dimensions: int | None,
        credential: Credential | None = None,
        refuse_truncation: bool = False,
    ) -> Embeddings:
        """Embed the texts, in order. Raises an `UpstreamFailed`, or `InvalidRequest` for unsupported dimensions.

        With `refuse_truncation` a text that is longer than the model reads is `ContextLengthExceeded`.
        """


class TokenIdEmbedder(Protocol):
    """Embeddings of an upstream that takes token ids, too."""

    async def embed(
        self,
        model: str,
        inputs: Sequence[EmbeddingInput],
        /,
        *,
        dimensions: int | None,
        credential: Credential | None = None,
    ) -> Embeddings:
        """Embed the inputs, in order. Raises as `Embedder` does."""


class Reranker(Protocol):
    """Scores of one upstream."""

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], /, *, credential: Credential | None = None
    ) -> Scores:
        """Score the documents, in order. Raises an `UpstreamFailed`; a text that is too long is never cut."""


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Upstream:
    """What a configured upstream can do."""

    counter: TokenCounter
    provider: Provider | None = None
    embedder: Embedder | None = None
    token_id_embedder: TokenIdEmbedder | None = None
    """Gets token ids as they are; without it the embedder gets their texts."""
    reranker: Reranker | None = None
    credentials: Credentials = NO_CREDENTIALS
    requires_credential: bool = False
    """Whether it must not be called without one: its credentials are managed, and may all have been revoked."""
    retire: Callable[[], None] = _do_nothing
    """Closes what is idle, now, and the rest when the calls that use it have ended. They are not failed."""


Upstreams = Mapping[str, Upstream]
"""By the names that candidates use. It changes while the process runs: look a name up at each attempt."""
