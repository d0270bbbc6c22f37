"""The body of a request for scores."""

from typing import Annotated

import msgspec
from chassis.errors import InvalidRequest
from values.limits import MAX_MODEL_NAME_CHARACTERS, MAX_RERANK_DOCUMENTS

from gateway.inference import limits as checks
from gateway.web.request_body import decode_body

TEXT = {"type": "string", "minLength": 1, "pattern": r"\S"}
DOCUMENTS_SCHEMA = {
    "description": "Texts, or objects with a `text`; other fields of such an object are not read. A document that is "
    "longer than the model reads at once is read in windows, and has the score of its best one; none is cut. Each "
    "window is billed with the query.",
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_RERANK_DOCUMENTS,
    "items": {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
        ]
    },
}
ModelName = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_MODEL_NAME_CHARACTERS})]


class RerankDocument(msgspec.Struct):
    """A document with a name for its text."""

    text: str


class RerankBody(msgspec.Struct):
    """`POST /v1/rerank`."""

    model: ModelName
    query: str
    documents: list[str | RerankDocument]
    top_n: int | None = None
    return_documents: bool = True


_DECODER = msgspec.json.Decoder(RerankBody)


def read_rerank(body: bytes) -> tuple[RerankBody, list[str]]:
    """Decode and check the body; its documents. Raises InvalidJson, or InvalidRequest naming the parameter."""
    rerank = decode_body(_DECODER, body)
    checks.check_model(rerank.model)
    if not rerank.query.strip():
        raise InvalidRequest("query must not be empty.", param="query")
    documents = [one if isinstance(one, str) else one.text for one in rerank.documents]
    if not 1 <= len(documents) <= MAX_RERANK_DOCUMENTS:
        raise InvalidRequest(f"documents must have 1 to {MAX_RERANK_DOCUMENTS} entries.", param="documents")
    if not all(documents):
        raise InvalidRequest("documents must not hold an empty text.", param=f"documents[{documents.index('')}]")
    if rerank.top_n is not None and rerank.top_n < 1:
        raise InvalidRequest("top_n must be at least 1.", param="top_n")
    return rerank, documents
