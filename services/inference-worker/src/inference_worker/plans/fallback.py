"""When another candidate is tried."""

from collections.abc import Sequence

from chassis.errors import ArgosyError

from inference_worker.domain.account import Attempt
from inference_worker.domain.failures import UpstreamFailed


def following(failure: ArgosyError | None, attempts: Sequence[Attempt], candidates: int) -> int | None:
    """Which of the candidates comes after the attempts so far; None when the plan is over.

    Never after a byte of an answer: the client may have it. A connection that was dropped at once is
    tried once more on the same candidate: a kept-alive connection may just have been closed by the other side.
    """
    last = attempts[-1]
    if not isinstance(failure, UpstreamFailed) or not failure.fallback or last.first_byte_after is not None:
        return None
    tried = sum(attempt.candidate == last.candidate for attempt in attempts)
    place = last.candidate if failure.again and tried == 1 else last.candidate + 1
    return place if place < candidates else None
