"""The body of an embeddings request."""

from typing import Annotated, Literal

import msgspec
from chassis.errors import InvalidRequest
from values.embeddings import MAX_TOKEN_ID, EmbeddingInput
from values.limits import MAX_DIMENSIONS, MAX_EMBEDDING_INPUTS, MAX_MODEL_NAME_CHARACTERS

from gateway.inference import limits as checks
from gateway.web.request_body import decode_body

TEXT = {"type": "string", "minLength": 1}
TOKEN_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}}
INPUT_SCHEMA = {
    "description": "A text, an array of texts, the token ids of one text, or an array of arrays of token ids. Token "
    "ids pass through to providers with OpenAI's API, and have to be of the model's own encoding; for other models "
    "they are those of `cl100k_base`. All vectors of a request may have 32 MiB as 32-bit floats, as 2,048 of 4,096 "
    "numbers; more is refused before the call where their size is known. An input that is longer than the model reads "
    "is refused with `context_length_exceeded`, and nothing is billed.",
    "anyOf": [
        TEXT,
        {"type": "array", "minItems": 1, "maxItems": MAX_EMBEDDING_INPUTS, "items": TEXT},
        TOKEN_IDS,
        {"type": "array", "minItems": 1, "maxItems": MAX_EMBEDDING_INPUTS, "items": TOKEN_IDS},
    ],
}
ModelName = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_MODEL_NAME_CHARACTERS})]
Dimensions = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_DIMENSIONS})]


class EmbeddingsBody(msgspec.Struct):
    """`POST /v1/embeddings`."""

    model: ModelName
    input: str | list[str | int | list[int]]
    dimensions: Dimensions | None = None
    encoding_format: Literal["float", "base64"] | None = None

    def inputs(self) -> list[EmbeddingInput]:
        """The texts, or the token ids: an array of numbers is one input. Raises InvalidRequest for a mixture."""
        if isinstance(self.input, str):
            return [self.input]
        kinds = {type(one) for one in self.input}
        if len(kinds) > 1:
            raise InvalidRequest("input must hold only texts, only token ids or only arrays of them.", param="input")
        if int in kinds:
            return [tuple(one for one in self.input if isinstance(one, int))]
        return [tuple(one) if isinstance(one, list) else str(one) for one in self.input]


_DECODER = msgspec.json.Decoder(EmbeddingsBody)


def read_embeddings(body: bytes) -> tuple[EmbeddingsBody, list[EmbeddingInput]]:
    """Decode and check the body; its inputs. Raises InvalidJson, or InvalidRequest with the name of the parameter."""
    embeddings = decode_body(_DECODER, body)
    checks.check_model(embeddings.model)
    inputs = embeddings.inputs()
    checks.check_inputs(inputs)
    checks.check_dimensions(embeddings.dimensions)
    return embeddings, inputs
