"""The rate limit headers that OpenAI's clients read."""

import math

from gateway.rate_limits.limiter import RateLimitStatus

Headers = tuple[tuple[bytes, bytes], ...]

LIMIT = b"x-ratelimit-limit-requests"
REMAINING = b"x-ratelimit-remaining-requests"
RESET = b"x-ratelimit-reset-requests"


def rate_limit_headers(status: RateLimitStatus | None) -> Headers:
    """Write the headers; none when nothing is limited."""
    if status is None:
        return ()
    limit, remaining, reset_seconds = status
    return (LIMIT, b"%d" % limit), (REMAINING, b"%d" % remaining), (RESET, format_duration(reset_seconds))


def format_duration(seconds: float) -> bytes:
    """Write a duration as OpenAI does: `20ms`, `1s`, `8.64s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, rest = divmod(round(seconds, 3), 60)
    text = b"%g" % round(rest, 3)
    return b"%dm%bs" % (minutes, text) if minutes else text + b"s"
