"""The hot routes in the OpenAPI document: they are not FastAPI's, and are described beside those that are."""

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import FastAPI

from .bodies import ChatBody, EmbeddingsBody
from .chat import ROUTE as CHAT
from .embeddings import ROUTE as EMBEDDINGS

REFERENCE = "#/components/schemas/{name}"
ERROR_SCHEMA = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "For people."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The parameter that is wrong, dotted."},
                "code": {"type": "string", "description": "Stable and documented."},
            },
        }
    },
}
ERROR = {
    "description": "Refused",
    "content": {"application/json": {"schema": {"$ref": REFERENCE.format(name="Error")}}},
}
COST_HEADER = {"argosy-cost": {"description": "What it cost, in US dollars, exactly.", "schema": {"type": "string"}}}


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Answer what `app.openapi` is to be."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = own()
            add_hot_routes(document)
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


def add_hot_routes(document: dict[str, Any]) -> None:
    """Add their paths, their bodies, and the one shape of every error."""
    _, components = msgspec.json.schema_components([ChatBody, EmbeddingsBody], ref_template=REFERENCE)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components)
    schemas["Error"] = ERROR_SCHEMA
    document["paths"][CHAT] = {"post": _operation("Answer a chat completion.", "Chat", ChatBody, streamed=True)}
    document["paths"][EMBEDDINGS] = {"post": _operation("Turn texts into vectors.", "Embeddings", EmbeddingsBody)}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's word for what is a 400 here
            operation["responses"]["default"] = ERROR
            operation["security"] = [{"key": []}]
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}


def _operation(summary: str, tag: str, body: type[msgspec.Struct], *, streamed: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streamed:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "JSON chunks, then [DONE]."}}
    schema = {"$ref": REFERENCE.format(name=body.__name__)}
    return {
        "summary": summary,
        "tags": [tag],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "The answer", "content": content, "headers": COST_HEADER}},
    }
