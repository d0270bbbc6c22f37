"""Which inference requests make sense, said with the name of the parameter that does not."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import InvalidRequest

LONGEST_MODEL_NAME = 256
MOST_INPUTS = 2048
MOST_VECTOR_STORES = 10
MOST_PASSAGES = 50
# Only the assistant may say nothing: its turn can be a tool call.
SILENT_ROLE = "assistant"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for at most."""

    output_tokens: int = 131_072
    messages: int = 10_000
    choices: int = 8


def check_model(model: str) -> None:
    """A model has a name."""
    if not 1 <= len(model) <= LONGEST_MODEL_NAME:
        raise InvalidRequest(f"model must have 1 to {LONGEST_MODEL_NAME} characters.", param="model")


def check_messages(count: int, limits: Limits) -> None:
    """There is something to answer, and not without end."""
    if not 1 <= count <= limits.messages:
        raise InvalidRequest(f"messages must have 1 to {limits.messages} entries.", param="messages")


def check_content(position: int, role: str, *, silent: bool) -> None:
    """Everybody but the assistant has to say something."""
    if silent and role != SILENT_ROLE:
        param = f"messages[{position}].content"
        raise InvalidRequest(f"{param} must be a string or an array of parts.", param=param)


def check_choices(n: int | None, limits: Limits) -> None:
    """Some answers, and no more than the installation allows: each is reserved for."""
    if n is not None and not 1 <= n <= limits.choices:
        raise InvalidRequest(f"n must be between 1 and {limits.choices}.", param="n")


def check_sampling(temperature: float | None, top_p: float | None) -> None:
    """The ranges that OpenAI's API documents."""
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidRequest("temperature must be between 0 and 2.", param="temperature")
    if top_p is not None and not 0 <= top_p <= 1:
        raise InvalidRequest("top_p must be between 0 and 1.", param="top_p")


def check_output_tokens(asked: int | None, limits: Limits, *, param: str) -> None:
    """At least one token, and no more than the installation allows."""
    if asked is not None and not 1 <= asked <= limits.output_tokens:
        raise InvalidRequest(f"{param} must be between 1 and {limits.output_tokens}.", param=param)


def check_retrieval(vector_store_ids: Sequence[str], query: str | None, limit: int | None) -> None:
    """Some stores, a query that says something, a sensible number of passages."""
    if not 1 <= len(vector_store_ids) <= MOST_VECTOR_STORES or not all(vector_store_ids):
        param = "argosy.retrieval.vector_store_ids"
        raise InvalidRequest(f"{param} must name 1 to {MOST_VECTOR_STORES} vector stores.", param=param)
    if query is not None and not query.strip():
        raise InvalidRequest("argosy.retrieval.query must not be empty.", param="argosy.retrieval.query")
    if limit is not None and not 1 <= limit <= MOST_PASSAGES:
        param = "argosy.retrieval.limit"
        raise InvalidRequest(f"{param} must be between 1 and {MOST_PASSAGES}.", param=param)


def check_inputs(inputs: Sequence[str]) -> None:
    """Texts to embed: some, not too many, none empty."""
    if not 1 <= len(inputs) <= MOST_INPUTS:
        raise InvalidRequest(f"input must have 1 to {MOST_INPUTS} texts.", param="input")
    if not all(inputs):
        position = next(place for place, text in enumerate(inputs) if not text)
        raise InvalidRequest("input must not hold an empty text.", param=f"input[{position}]")


def check_dimensions(dimensions: int | None) -> None:
    """A vector has at least one dimension, and a count that fits the wire."""
    if dimensions is not None and not 1 <= dimensions <= 65_536:
        raise InvalidRequest("dimensions must be between 1 and 65536.", param="dimensions")
