"""Stands in for an upstream that is not there, so that a plan may name it and go on to the next candidate."""

from collections.abc import Sequence

from inference_worker.domain.failures import UpstreamFailed
from inference_worker.domain.plan import Candidate
from inference_worker.domain.ports import Answer, Upstream, Vectors


class Absent:
    """Provider and embedder that refuse everything."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def open(self, candidate: Candidate, *, stream: bool) -> Answer:  # noqa: ARG002 - the port's face
        """Refuse."""
        raise UpstreamFailed(self._why)

    async def embed(self, model: str, texts: Sequence[str], *, dimensions: int | None) -> Vectors:  # noqa: ARG002
        """Refuse."""
        raise UpstreamFailed(self._why)


class Uncounted:
    """A counter for upstreams whose tokenizer nobody knows."""

    async def count(self, texts: Sequence[str]) -> int | None:  # noqa: ARG002
        """Nobody knows."""
        return None


_UNKNOWN = Absent("this upstream is not configured")
NOWHERE = Upstream(counter=Uncounted(), provider=_UNKNOWN, embedder=_UNKNOWN)
"""What a plan gets for a name that no setting mentions."""
