"""How long a provider asks to wait: every form of it that is in use.

Sources: RFC 9110 10.2.3 (`retry-after`), OpenAI's rate limit headers (`1m30s`, `6ms`), Azure's `retry-after-ms` and
`x-ms-retry-after-ms`, Anthropic's `anthropic-ratelimit-*-reset` (RFC 3339), OpenRouter's `x-ratelimit-reset` (epoch in
milliseconds), google.rpc.RetryInfo (`3.5s`).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_WAIT = timedelta(days=1)
"""Longer waits are clock errors or monthly quotas; clients would misread them."""

_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,8}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,6})?)ms)?"
)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_EPOCH = re.compile(r"1\d{9}(?:\.\d{1,9})?|1\d{12}")
_IN_WORDS = re.compile(
    r"(?:try again|retry)(?: again)? (?:in|after) ((?:\d+(?:\.\d+)?(?:ms|[hms]))+|\d+(?:\.\d+)?)"
    r"(?: ?(seconds?|minutes?|milliseconds?))?",
    re.IGNORECASE,
)


def provider_wait(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait in the headers of a refusal, whose names are in lower case; None without one.

    The explicit forms come first. Of several reset times, that of a limit with nothing remaining counts, and else the
    earliest: the limits that were not reached reset later.
    """
    for name, parse in (
        ("retry-after-ms", _milliseconds),
        ("x-ms-retry-after-ms", _milliseconds),
    ):
        if (wait := parse(headers.get(name, ""))) is not None:
            return _bounded(wait)
    if (wait := retry_after(headers.get("retry-after", ""), now)) is not None:
        return wait
    reached: list[timedelta] = []
    others: list[timedelta] = []
    for name, value in headers.items():
        if "ratelimit" not in name or "reset" not in name:
            continue
        if (wait := _reset(value.strip(), now)) is not None:
            remaining = headers.get(name.replace("reset", "remaining"), "").strip()
            (reached if remaining == "0" else others).append(wait)
    if reached:
        return _bounded(max(reached))
    return _bounded(min(others)) if others else None


def retry_after(value: str, now: datetime) -> timedelta | None:
    """Parse `retry-after`: seconds (with a fraction, as some write it) or an HTTP date."""
    value = value.strip()
    if _NUMBER.fullmatch(value):
        return _bounded(timedelta(seconds=float(value)))
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return _bounded(parse_seconds(value))
    return _bounded((at if at.tzinfo else at.replace(tzinfo=UTC)) - now)


def parse_seconds(value: str) -> timedelta | None:
    """Parse `1m30s`, `6ms`, `3.5s`, `2h`. None for anything else."""
    match = _DURATION.fullmatch(value.strip())
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)


def wait_in_words(message: str) -> timedelta | None:
    """Return the wait in "Please try again in 1m30s." or "Please retry after 6 seconds."."""
    match = _IN_WORDS.search(message)
    if match is None:
        return None
    number, unit = match.group(1), (match.group(2) or "").lower()
    if _NUMBER.fullmatch(number):
        scale = 0.001 if unit.startswith("milli") else 60.0 if unit.startswith("minute") else 1.0
        return _bounded(timedelta(seconds=float(number) * scale))
    return _bounded(parse_seconds(number))


def _milliseconds(value: str) -> timedelta | None:
    value = value.strip()
    return timedelta(milliseconds=float(value)) if _NUMBER.fullmatch(value) else None


def _reset(value: str, now: datetime) -> timedelta | None:
    if _EPOCH.fullmatch(value):
        number = float(value)
        return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC) - now
    if _NUMBER.fullmatch(value):
        return timedelta(seconds=float(value))
    if (duration := parse_seconds(value)) is not None:
        return duration
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) - now


def _bounded(wait: timedelta | None) -> timedelta | None:
    return None if wait is None else min(max(wait, timedelta(0)), MAX_WAIT)
