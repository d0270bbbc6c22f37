"""What a provider does, and what must follow: the calls, who is asked with which credential, what is paid."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """One way to fail.

    `calls` are those of one request in order: candidate and credential, 1 for the one that its tenant begins with.
    """

    does: str
    """What the candidate `main` does, as a model of the journaled provider."""
    calls: str
    paid: str
    """What becomes of each of them: billed, exposed, released."""
    code: str = ""
    """Of the error that the client gets; none for an answer."""
    first_key_only: bool = False
    """Whether it does so with the first credential only."""
    stream: bool | None = False
    """None for both forms."""
    waits: float = 0.0
    """The least number of seconds between the first call and the second."""
    requests: int = 1
    """So many requests in a row must have the same calls. It takes more than a few to meet each replica."""
    rests: bool = False
    """Whether the first credential is then left alone: later requests are answered with the second at once."""
    more: int = 0
    """So many later requests, which are all answered, with few retries."""
    asks: float = 0.0
    """Seconds for which the provider asks for peace: `main` gets no call from those who know, and then some again."""


FILTERED, TOO_LONG, NO_SUCH = "content_filter", "context_length_exceeded", "unsupported_parameter"
EMPTY = "insufficient_quota"
BOTH, TWICE, NEXT = "main/1 main/2", "main/1 main/1 next/1", "main/1 next/1"

ROWS: Final = {
    "401, one credential": Row("refuse?status=401", BOTH, "released billed", first_key_only=True, rests=True),
    "402, one credential": Row("refuse?status=402", BOTH, "released billed", first_key_only=True, rests=True),
    "an empty account, one credential": Row(
        f"refuse?status=429&code={EMPTY}&after=20", BOTH, "released billed", first_key_only=True, rests=True
    ),
    "403, one credential": Row("refuse?status=403", BOTH, "released billed", first_key_only=True, requests=4),
    "401, both": Row("refuse?status=401", BOTH, "released released", "upstream_account_unavailable"),
    "an empty account, both": Row(
        f"refuse?status=429&code={EMPTY}&after=20", BOTH, "released released", "upstream_account_unavailable"
    ),
    "429 in seconds": Row("refuse?status=429&after=3", f"{BOTH} next/1", "released released billed", asks=3.0),
    "429 in milliseconds": Row(
        "refuse?status=429&after_ms=2500", f"{BOTH} next/1", "released released billed", asks=2.5
    ),
    # The date has whole seconds.
    "429 until a date": Row("refuse?status=429&after_date=4", f"{BOTH} next/1", "released released billed", asks=3.0),
    "503 with a wait": Row("refuse?status=503&after=1", TWICE, "released released billed", waits=1.0),
    "500": Row("refuse?status=500", TWICE, "released released billed", more=40),
    # Within a second it counts as a connection that was idle and had ended.
    "a connection that drops": Row("cut?chunks=0&wait=1.5", TWICE, "exposed exposed billed"),
    "504": Row("refuse?status=504", NEXT, "released billed"),
    "nothing in time": Row("answer?wait=60", NEXT, "exposed billed"),
    "too many tokens": Row(
        f"refuse?status=400&code={TOO_LONG}", "main/1 long/1", "released billed", stream=None, requests=4
    ),
    "content policy": Row(
        f"refuse?status=400&code={FILTERED}", "main/1 frank/1", "released billed", stream=None, requests=4
    ),
    "a parameter": Row(f"refuse?status=400&code={NO_SUCH}", NEXT, "released billed", requests=4),
    "no such model": Row("refuse?status=404", NEXT, "released billed", requests=4),
    "a bad request": Row("refuse?status=400", "main/1", "released", "upstream_rejected", requests=4),
    "a stream that drops before its content": Row("cut?chunks=0&role=1", TWICE, "exposed exposed billed", stream=True),
    "an error in a stream before its content": Row(
        "cut?chunks=0&role=1&event=1", TWICE, "exposed exposed billed", stream=True
    ),
    "a stream that drops after its content": Row(
        "cut?chunks=2&role=1", "main/1", "billed", "upstream_interrupted", stream=True, requests=4
    ),
    "an error in a stream after its content": Row(
        "cut?chunks=2&role=1&event=1", "main/1", "billed", "upstream_interrupted", stream=True, requests=4
    ),
}
