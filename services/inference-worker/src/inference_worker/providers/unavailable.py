"""Takes the place of what is not configured, so that the attempt fails like any other and the next candidate runs."""

from collections.abc import Sequence

from inference_worker.providers.model import Embeddings, UpstreamFailed
from inference_worker.providers.ports import Completion, Upstream
from inference_worker.token_counting.model import NullTokenCounter


class UnavailableProvider:
    """A provider and embedder whose calls all fail, for `reason`."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def open(self, model: str, body: bytes, *, stream: bool) -> Completion:  # noqa: ARG002 - part of the port
        raise UpstreamFailed(self._reason)

    async def embed(self, model: str, texts: Sequence[str], *, dimensions: int | None) -> Embeddings:  # noqa: ARG002
        raise UpstreamFailed(self._reason)


_NOT_CONFIGURED = UnavailableProvider("this upstream is not configured")
UNKNOWN_UPSTREAM = Upstream(counter=NullTokenCounter(), provider=_NOT_CONFIGURED, embedder=_NOT_CONFIGURED)
CHAT_UNSUPPORTED = UnavailableProvider("this upstream does not support chat")
EMBEDDINGS_UNSUPPORTED = UnavailableProvider("this upstream does not support embeddings")
