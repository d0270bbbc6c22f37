"""What operators decide: limits and times."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and times of one deployment, the same for all requests."""

    default_deadline: timedelta
    """For a request that brings none."""
    longest_deadline: timedelta
    """A request that asks for more gets this."""
    lease: timedelta
    """How long beyond its deadline a reservation lasts without a settlement."""
    first_byte: timedelta
    """Until the first byte of a streamed attempt; then the next candidate is tried."""
    whole_answer: timedelta
    """The same for an attempt that is not streamed: its first byte comes when all of it is written."""
    idle: timedelta
    """The longest silence inside an answer."""
    reserve: timedelta
    """The most that a reservation may take."""
    search: timedelta
    """The most that a search for context may take."""
    passages: int
    """Passages asked for when the client does not say."""
    context_bytes: int
    """The most that passages may take of a prompt; about four bytes are a token."""
    hang_up: timedelta
    """How long a plan that nobody listens to any more may take to give its account."""
    waiting_bytes: int
    """Bytes that may wait for one slow client before its provider has to wait."""
    plan_bytes: int
    """The most that the bodies of a plan may have together."""
    embedding_bytes: int
    """The most that the inputs of one embedding may have together."""
