"""Prompts whose answers are cached, and what limits them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from chassis.errors import InvalidRequest

PARTITION_BYTES: Final = 32
MAX_PROMPT_CHARACTERS: Final = 2_000
MAX_ENTRY_ID_CHARACTERS: Final = 128
MAX_MODEL_CHARACTERS: Final = 256
MAX_PER_PARTITION: Final = 500
"""Prompts of a partition: those that expire last. A look-up reads all of them."""
MAX_LIFETIME: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class PromptQuery:
    """A prompt to find others for. Raises InvalidRequest for what is out of its range."""

    partition: bytes
    prompt: str
    min_similarity: float
    """Cosine similarity, above 0 and at most 1."""
    limit: int

    def __post_init__(self) -> None:
        _check_partition(self.partition)
        _check_text(self.prompt, "prompt", MAX_PROMPT_CHARACTERS)
        if not 0 < self.min_similarity <= 1:
            raise InvalidRequest("min_similarity must be above 0 and at most 1", param="min_similarity")


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """A prompt to keep. Raises InvalidRequest for what is out of its range."""

    partition: bytes
    entry_id: str
    model: str
    prompt: str
    lifetime: timedelta

    def __post_init__(self) -> None:
        _check_partition(self.partition)
        _check_text(self.entry_id, "entry_id", MAX_ENTRY_ID_CHARACTERS)
        _check_text(self.model, "model", MAX_MODEL_CHARACTERS)
        _check_text(self.prompt, "prompt", MAX_PROMPT_CHARACTERS)
        if not timedelta(0) < self.lifetime <= MAX_LIFETIME:
            raise InvalidRequest(f"lifetime must be above 0 and at most {MAX_LIFETIME.days} days", param="lifetime")


@dataclass(frozen=True, slots=True)
class NearPrompt:
    """A kept prompt, and its cosine similarity to the one that was asked for."""

    entry_id: str
    prompt: str
    similarity: float


def _check_partition(partition: bytes) -> None:
    if len(partition) != PARTITION_BYTES:
        raise InvalidRequest(f"partition must have {PARTITION_BYTES} bytes", param="partition")


def _check_text(text: str, param: str, maximum: int) -> None:
    if not text.strip() or "\0" in text:
        raise InvalidRequest(f"{param} must not be empty", param=param)
    if len(text) > maximum:
        raise InvalidRequest(f"{param} may have at most {maximum} characters", param=param)
