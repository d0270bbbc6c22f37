"""How long a claim on an attachment or a migration lasts, and when its work is tried again."""

import random
from datetime import timedelta

LEASE = timedelta(seconds=30)
MAX_RETRY_DELAY = timedelta(seconds=60)


def retry_delay(retries: int) -> timedelta:
    """Exponential backoff with jitter, at least a second."""
    bound = min(MAX_RETRY_DELAY.total_seconds(), 2.0 ** (retries + 1))
    return timedelta(seconds=random.uniform(1.0, bound))  # noqa: S311 - jitter
