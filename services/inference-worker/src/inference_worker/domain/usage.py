"""What one provider call consumed."""

from dataclasses import dataclass
from enum import StrEnum


class UsageSource(StrEnum):
    """How token counts were learnt."""

    REPORTED = "reported"
    COUNTED = "counted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written. None is unknown; an explicit zero is a value."""

    source: UsageSource
    input_tokens: int | None = None
    output_tokens: int | None = None


NOTHING = Usage(UsageSource.COUNTED, 0, 0)
"""The call was refused before it began: certainly nothing was used."""

UNKNOWN = Usage(UsageSource.UNKNOWN)
"""The call may have cost something, and nobody can say what."""
