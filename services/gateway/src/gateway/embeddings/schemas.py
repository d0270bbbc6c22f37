"""The body of an embeddings request."""

from typing import Annotated, Literal

import msgspec
from chassis.errors import InvalidRequest
from values.limits import MAX_DIMENSIONS, MAX_EMBEDDING_INPUTS, MAX_MODEL_NAME_CHARACTERS

from gateway.inference import limits as checks
from gateway.web.request_body import decode_body

TEXT = {"type": "string", "minLength": 1}
# For the OpenAPI document: arrays of token ids are decoded only to be refused by name.
INPUT_SCHEMA = {"anyOf": [TEXT, {"type": "array", "minItems": 1, "maxItems": MAX_EMBEDDING_INPUTS, "items": TEXT}]}
ModelName = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_MODEL_NAME_CHARACTERS})]
Dimensions = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_DIMENSIONS})]


class EmbeddingsBody(msgspec.Struct):
    """`POST /v1/embeddings`."""

    model: ModelName
    input: str | list[str | int | list[int]]
    dimensions: Dimensions | None = None
    encoding_format: Literal["float", "base64"] | None = None

    def texts(self) -> list[str]:
        """The inputs. Raises InvalidRequest for token ids, which have no meaning without their tokenizer."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        texts = [text for text in inputs if isinstance(text, str)]
        if len(texts) != len(inputs):
            raise InvalidRequest(
                "input must be a text or an array of texts; token ids are not accepted.", param="input"
            )
        return texts


_DECODER = msgspec.json.Decoder(EmbeddingsBody)


def read_embeddings(body: bytes) -> tuple[EmbeddingsBody, list[str]]:
    """Decode and check the body; its texts. Raises InvalidJson, or InvalidRequest with the name of the parameter."""
    embeddings = decode_body(_DECODER, body)
    checks.check_model(embeddings.model)
    texts = embeddings.texts()
    checks.check_inputs(texts)
    checks.check_dimensions(embeddings.dimensions)
    return embeddings, texts
