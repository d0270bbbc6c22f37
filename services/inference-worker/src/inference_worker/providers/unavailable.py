"""Takes the place of what is not configured, so that the attempt fails like any other and the next candidate runs."""

from collections.abc import Sequence

from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import Blame, Embeddings, Scores, UpstreamFailed
from inference_worker.providers.ports import Completion, Upstream
from inference_worker.token_counting.model import NullTokenCounter


class UnavailableProvider:
    """A provider, embedder and reranker whose calls all fail, for `reason`."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def open(
        self,
        model: str,  # noqa: ARG002 - part of the port
        body: bytes,  # noqa: ARG002
        *,
        stream: bool,  # noqa: ARG002
        credential: Credential | None = None,  # noqa: ARG002
    ) -> Completion:
        raise UpstreamFailed(self._reason, blame=Blame.WORKER)

    async def rerank(
        self,
        model: str,  # noqa: ARG002 - part of the port
        query: str,  # noqa: ARG002
        documents: Sequence[str],  # noqa: ARG002
        *,
        credential: Credential | None = None,  # noqa: ARG002
    ) -> Scores:
        raise UpstreamFailed(self._reason, blame=Blame.WORKER)

    async def embed(
        self,
        model: str,  # noqa: ARG002 - part of the port
        texts: Sequence[str],  # noqa: ARG002
        *,
        dimensions: int | None,  # noqa: ARG002
        credential: Credential | None = None,  # noqa: ARG002
        refuse_truncation: bool = False,  # noqa: ARG002
    ) -> Embeddings:
        raise UpstreamFailed(self._reason, blame=Blame.WORKER)


_NOT_CONFIGURED = UnavailableProvider("this upstream is not configured")
UNKNOWN_UPSTREAM = Upstream(
    counter=NullTokenCounter(), provider=_NOT_CONFIGURED, embedder=_NOT_CONFIGURED, reranker=_NOT_CONFIGURED
)
CHAT_UNSUPPORTED = UnavailableProvider("this upstream does not support chat")
RERANKING_UNSUPPORTED = UnavailableProvider("this upstream does not score documents")
EMBEDDINGS_UNSUPPORTED = UnavailableProvider("this upstream does not support embeddings")
