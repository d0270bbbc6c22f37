"""The port of the context feature."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from values.attributes import Filter

from orchestrator.context.model import Passage


class RetrievalClient(Protocol):
    """Retrieval, on behalf of the current caller."""

    async def search(
        self,
        vector_store_ids: Sequence[str],
        query: str,
        limit: int,
        timeout: timedelta,
        filters: Filter | None = None,
    ) -> Sequence[Passage]:
        """Return the best passages of the files whose attributes fit, best first.

        Raises `RemoteError` for an error of retrieval, `Unavailable` or `DeadlineExceeded` when it does not answer.
        """
