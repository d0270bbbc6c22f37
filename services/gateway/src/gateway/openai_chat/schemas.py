"""The body of a chat completion: the fields that the gateway checks. The orchestrator judges all others."""

from typing import Annotated, Any, Literal

import msgspec
from chassis.errors import InvalidRequest
from values.limits import (
    MAX_CACHE_AGE_SECONDS,
    MAX_MODEL_NAME_CHARACTERS,
    MAX_PASSAGES,
    MAX_QUERY_CHARACTERS,
    MAX_VECTOR_STORES_PER_REQUEST,
)

from gateway.inference import limits as checks
from gateway.inference.limits import InferenceLimits
from gateway.web.request_body import decode_body

# The checks below are documented here, not made: msgspec would name the field, and not what it must be.
ModelName = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_MODEL_NAME_CHARACTERS})]
StoreIds = Annotated[
    list[Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1})]],
    msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": MAX_VECTOR_STORES_PER_REQUEST}),
]
Query = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"\S", "maxLength": MAX_QUERY_CHARACTERS})]
PassageLimit = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_PASSAGES})]
CacheAge = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_CACHE_AGE_SECONDS})]
Temperature = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 2})]
TopP = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None


class Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


Filters = Annotated[
    dict[str, Any],
    msgspec.Meta(description="As in a search of a vector store: `ComparisonFilter` or `CompoundFilter`."),
]


class RetrievalOptions(msgspec.Struct):
    """Vector stores to search for passages, which are put into the prompt."""

    vector_store_ids: StoreIds
    query: Query | None = None
    limit: PassageLimit | None = None
    optional: bool | None = None
    filters: Filters | None = None
    """Only passages of files whose attributes fit."""


class CacheOptions(msgspec.Struct):
    """How to use the response cache: `read` takes a cached answer and keeps none, `write` the reverse, `on` both."""

    mode: Literal["off", "read", "write", "on"] | None = None
    max_age: CacheAge | None = None
    """The oldest answer to accept, in seconds."""


class ArgosyOptions(msgspec.Struct):
    """Argosy's own field of the body. The orchestrator refuses names in it that it does not know."""

    retrieval: RetrievalOptions | None = None
    cache: CacheOptions | None = None
    metadata: dict[str, Any] | None = None


class ChatBody(msgspec.Struct):
    """`POST /v1/chat/completions`."""

    model: ModelName
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    argosy: ArgosyOptions | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage is True


_DECODER = msgspec.json.Decoder(ChatBody)


def read_chat(body: bytes, limits: InferenceLimits) -> ChatBody:
    """Decode and check. Raises InvalidJson, or InvalidRequest with the dotted name of the parameter."""
    chat = decode_body(_DECODER, body)
    checks.check_model(chat.model)
    checks.check_messages(len(chat.messages), limits)
    for position, message in enumerate(chat.messages):
        content = message.content
        if not isinstance(content, str):
            checks.check_content(position, message.role, empty=not content)
            _check_parts(position, content or [])
    checks.check_choices(chat.n, limits)
    checks.check_output_tokens(chat.max_tokens, limits, param="max_tokens")
    checks.check_output_tokens(chat.max_completion_tokens, limits, param="max_completion_tokens")
    checks.check_sampling(chat.temperature, chat.top_p)
    if chat.argosy is not None and chat.argosy.retrieval is not None:
        retrieval = chat.argosy.retrieval
        checks.check_retrieval(retrieval.vector_store_ids, retrieval.query, retrieval.limit)
        if retrieval.filters is not None:
            checks.check_filters(retrieval.filters)
    return chat


def _check_parts(position: int, parts: list[ContentPart]) -> None:
    for index, part in enumerate(parts):
        if part.type == "text" and part.text is None:
            param = f"messages[{position}].content[{index}].text"
            raise InvalidRequest(f"{param} must be a string.", param=param)
