"""Bodies of the hot routes: the few fields that somebody decides on, typed. All others pass by unread.

The client's bytes go on as they came; what is decoded here is only looked at.
"""

import re
from typing import Any, Literal, NoReturn, TypeVar

import msgspec
from chassis.errors import ArgosyError, InvalidRequest, Kind

from gateway.domain import limits as rules
from gateway.domain.limits import Limits

T = TypeVar("T")

PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
FIELD = re.compile(r"missing required field `(?P<field>[^`]+)`")


class InvalidJson(ArgosyError):
    """The body is not JSON, or is nested too deeply to be read safely."""

    kind = Kind.INVALID
    reason = "INVALID_JSON"


class Part(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None


class Message(msgspec.Struct):
    """A turn of the conversation."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    """How to stream."""

    include_usage: bool | None = None


class RetrievalOptions(msgspec.Struct):
    """Which knowledge goes into the prompt."""

    vector_store_ids: list[str]
    query: str | None = None
    limit: int | None = None
    optional: bool | None = None


class Extension(msgspec.Struct):
    """Argosy's own part of a body. The orchestrator, whose it is, refuses names that it does not know."""

    retrieval: RetrievalOptions | None = None
    metadata: dict[str, Any] | None = None


class ChatBody(msgspec.Struct):
    """`POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    argosy: Extension | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for OpenAI's usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage is True


class EmbeddingsBody(msgspec.Struct):
    """`POST /v1/embeddings`."""

    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None

    def texts(self) -> list[str]:
        """Read the input as texts. Raises InvalidRequest for token ids, which say nothing without their tokenizer."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        texts = [text for text in inputs if isinstance(text, str)]
        if len(texts) != len(inputs):
            raise InvalidRequest(
                "input must be a text or an array of texts; token ids are not accepted.", param="input"
            )
        return texts


CHAT = msgspec.json.Decoder(ChatBody)
EMBEDDINGS = msgspec.json.Decoder(EmbeddingsBody)


def read_chat(body: bytes, limits: Limits) -> ChatBody:
    """Check a chat body. Raises InvalidJson, InvalidRequest with the dotted name of what is wrong."""
    chat = _decode(CHAT, body)
    rules.check_model(chat.model)
    rules.check_messages(len(chat.messages), limits)
    for position, message in enumerate(chat.messages):
        content = message.content
        if not isinstance(content, str):
            rules.check_content(position, message.role, silent=not content)
            _check_parts(position, content or [])
    rules.check_choices(chat.n, limits)
    rules.check_output_tokens(chat.max_tokens, limits, param="max_tokens")
    rules.check_output_tokens(chat.max_completion_tokens, limits, param="max_completion_tokens")
    rules.check_sampling(chat.temperature, chat.top_p)
    if chat.argosy is not None and chat.argosy.retrieval is not None:
        retrieval = chat.argosy.retrieval
        rules.check_retrieval(retrieval.vector_store_ids, retrieval.query, retrieval.limit)
    return chat


def read_embeddings(body: bytes) -> tuple[EmbeddingsBody, list[str]]:
    """Check an embeddings body and read its texts. Raises InvalidJson, InvalidRequest."""
    asked = _decode(EMBEDDINGS, body)
    rules.check_model(asked.model)
    texts = asked.texts()
    rules.check_inputs(texts)
    rules.check_dimensions(asked.dimensions)
    return asked, texts


def _check_parts(position: int, parts: list[Part]) -> None:
    for place, part in enumerate(parts):
        if part.type == "text" and part.text is None:
            param = f"messages[{position}].content[{place}].text"
            raise InvalidRequest(f"{param} must be a string.", param=param)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        body.decode()  # fields that are skipped are not looked into, yet must be text for whoever reads them later
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _refuse(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidJson("The body is not valid JSON.") from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None


def _refuse(said: str) -> NoReturn:
    match = PLACE.match(said)
    what, path = (match["what"], match["path"] or "") if match else (said, "")
    field = FIELD.search(what)
    param = ".".join(part for part in (path, field["field"] if field else "") if part)
    raise InvalidRequest(f"{param or 'body'}: {what}.", param=param or None)
