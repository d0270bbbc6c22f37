"""Checks of inference requests. Each raises InvalidRequest with the name of the parameter."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import InvalidRequest
from values.attributes import to_filter
from values.embeddings import MAX_TOKEN_ID, EmbeddingInput
from values.limits import (
    MAX_DIMENSIONS,
    MAX_EMBEDDING_INPUTS,
    MAX_MODEL_NAME_CHARACTERS,
    MAX_PASSAGES,
    MAX_VECTOR_STORES_PER_REQUEST,
)

# A message of the assistant may be a tool call, which has no content.
ROLE_WITHOUT_CONTENT = "assistant"


@dataclass(frozen=True, slots=True)
class InferenceLimits:
    max_output_tokens: int
    max_messages: int
    max_choices: int


def check_model(model: str) -> None:
    if not 1 <= len(model) <= MAX_MODEL_NAME_CHARACTERS:
        raise InvalidRequest(f"model must have 1 to {MAX_MODEL_NAME_CHARACTERS} characters.", param="model")


def check_messages(count: int, limits: InferenceLimits) -> None:
    if not 1 <= count <= limits.max_messages:
        raise InvalidRequest(f"messages must have 1 to {limits.max_messages} entries.", param="messages")


def check_content(position: int, role: str, *, empty: bool) -> None:
    if empty and role != ROLE_WITHOUT_CONTENT:
        param = f"messages[{position}].content"
        raise InvalidRequest(f"{param} must be a string or an array of parts.", param=param)


def check_choices(n: int | None, limits: InferenceLimits) -> None:
    if n is not None and not 1 <= n <= limits.max_choices:
        raise InvalidRequest(f"n must be between 1 and {limits.max_choices}.", param="n")


def check_sampling(temperature: float | None, top_p: float | None) -> None:
    """The ranges are those of OpenAI's reference."""
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidRequest("temperature must be between 0 and 2.", param="temperature")
    if top_p is not None and not 0 <= top_p <= 1:
        raise InvalidRequest("top_p must be between 0 and 1.", param="top_p")


def check_output_tokens(max_tokens: int | None, limits: InferenceLimits, *, param: str) -> None:
    if max_tokens is not None and not 1 <= max_tokens <= limits.max_output_tokens:
        raise InvalidRequest(f"{param} must be between 1 and {limits.max_output_tokens}.", param=param)


def check_retrieval(vector_store_ids: Sequence[str], query: str | None, limit: int | None) -> None:
    if not 1 <= len(vector_store_ids) <= MAX_VECTOR_STORES_PER_REQUEST or not all(vector_store_ids):
        param = "argosy.retrieval.vector_store_ids"
        raise InvalidRequest(f"{param} must name 1 to {MAX_VECTOR_STORES_PER_REQUEST} vector stores.", param=param)
    if query is not None and not query.strip():
        raise InvalidRequest("argosy.retrieval.query must not be empty.", param="argosy.retrieval.query")
    if limit is not None and not 1 <= limit <= MAX_PASSAGES:
        param = "argosy.retrieval.limit"
        raise InvalidRequest(f"{param} must be between 1 and {MAX_PASSAGES}.", param=param)


def check_filters(filters: object) -> None:
    try:
        to_filter(filters)
    except ValueError as error:
        raise InvalidRequest(f"argosy.retrieval.{error}.", param="argosy.retrieval.filters") from error


def check_inputs(inputs: Sequence[EmbeddingInput]) -> None:
    if not 1 <= len(inputs) <= MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(f"input must have 1 to {MAX_EMBEDDING_INPUTS} entries.", param="input")
    if not all(inputs):
        position = next(index for index, one in enumerate(inputs) if not one)
        raise InvalidRequest("input must not hold an empty text or array.", param=f"input[{position}]")
    for position, one in enumerate(inputs):
        if not isinstance(one, str) and not (min(one) >= 0 and max(one) <= MAX_TOKEN_ID):
            raise InvalidRequest(f"A token id must be from 0 to {MAX_TOKEN_ID}.", param=f"input[{position}]")


def check_dimensions(dimensions: int | None) -> None:
    if dimensions is not None and not 1 <= dimensions <= MAX_DIMENSIONS:
        raise InvalidRequest(f"dimensions must be between 1 and {MAX_DIMENSIONS}.", param="dimensions")
