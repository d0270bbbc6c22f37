"""The body of an embeddings request."""

from typing import Literal

import msgspec
from chassis.errors import InvalidRequest

from gateway.inference import limits as checks
from gateway.web.json_body import decode_body


class EmbeddingsBody(msgspec.Struct):
    """`POST /v1/embeddings`."""

    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
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
