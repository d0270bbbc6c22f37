"""The port of the context feature."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from orchestrator.context.model import Passage


class RetrievalClient(Protocol):
    """Retrieval, on behalf of the current caller."""

    async def search(
        self, vector_store_ids: Sequence[str], query: str, limit: int, timeout: timedelta
    ) -> Sequence[Passage]:
        """Return the best passages, best first.

        Raises `RemoteError` for an error of retrieval, `Unavailable` or `DeadlineExceeded` when it does not answer.
        """
