"""Which candidate is tried after a failed attempt."""

from collections.abc import Sequence

from chassis.errors import ArgosyError

from inference_worker.plans.model import Attempt
from inference_worker.providers.model import UpstreamFailed


def next_candidate(error: ArgosyError | None, attempts: Sequence[Attempt], candidates: int) -> int | None:
    """Return the index of the candidate to try after the attempts so far; None when the plan is over.

    There is no fallback after a byte of the response: the client may have it. A connection that dropped at once is
    tried once more on the same candidate: the peer may just have closed a kept-alive connection.
    """
    last = attempts[-1]
    if not isinstance(error, UpstreamFailed) or not error.fallback or last.first_byte_after is not None:
        return None
    tries = sum(attempt.candidate == last.candidate for attempt in attempts)
    index = last.candidate if error.retry_same and tries == 1 else last.candidate + 1
    return index if index < candidates else None
