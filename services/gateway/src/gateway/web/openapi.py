"""Adds the hot routes, which FastAPI does not serve, to its OpenAPI document."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from fastapi import FastAPI

SCHEMA_REF = "#/components/schemas/{name}"
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
ERROR_RESPONSE = {
    "description": "Error",
    "content": {"application/json": {"schema": {"$ref": SCHEMA_REF.format(name="Error")}}},
}
ACCEPTED_RESPONSE = {
    "description": "Accepted as a job",
    "content": {"application/json": {"schema": {"$ref": SCHEMA_REF.format(name="JobRead")}}},
    "headers": {
        "location": {"description": "Where the job is read.", "schema": {"type": "string"}},
        "retry-after": {"description": "Seconds until it is worth a read.", "schema": {"type": "integer"}},
    },
}
IDEMPOTENCY_PARAMETER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "Repeats of a submission with the same key and body within 24 hours are one job. Without a job it "
    "is not supported: the answer has `argosy-idempotency: unsupported`.",
    "schema": {"type": "string", "maxLength": 257},
}
ASYNC_PARAMETERS = [
    IDEMPOTENCY_PARAMETER,
    {
        "in": "header",
        "name": "Prefer",
        "required": False,
        "description": "With `respond-async` (RFC 7240) the request becomes a job. With `wait=10` beside it the "
        "answer is that of the endpoint if the job succeeds within ten seconds.",
        "schema": {"type": "string"},
    },
    {
        "in": "header",
        "name": "Argosy-Lane",
        "required": False,
        "description": "Lowers the lane of such a job: `interactive`, `standard` or `batch`.",
        "schema": {"type": "string"},
    },
]
_PARAMETERS: Mapping[str, list[dict[str, Any]]] = {
    "never": [],
    "on request": ASYNC_PARAMETERS,
    "always": [IDEMPOTENCY_PARAMETER],
}
COST_HEADER = {"argosy-cost": {"description": "The exact cost in US dollars.", "schema": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class AsgiRoute:
    """A POST route that is served by a hand-written handler."""

    path: str
    summary: str
    tag: str
    body: type[msgspec.Struct]
    streamed: bool = False
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    """Schemas of fields of the body, where its type says less than the handler checks."""
    accepts: Literal["never", "on request", "always"] = "never"
    """Whether the answer is 202 with a job: never, when the client prefers it, or always."""


def with_asgi_routes(app: FastAPI, asgi_routes: Iterable[AsgiRoute]) -> Callable[[], dict[str, Any]]:
    fastapi_openapi = app.openapi
    asgi_routes = tuple(asgi_routes)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = fastapi_openapi()
            _add_asgi_routes(document, asgi_routes)
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


def _add_asgi_routes(document: dict[str, Any], asgi_routes: tuple[AsgiRoute, ...]) -> None:
    bodies = [route.body for route in asgi_routes]
    _, components = msgspec.json.schema_components(bodies, ref_template=SCHEMA_REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components)
    schemas["Error"] = ERROR_SCHEMA
    for route in asgi_routes:
        schemas[route.body.__name__]["properties"].update(route.properties)
        document["paths"].setdefault(route.path, {})["post"] = _operation(route)
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's status for what is a 400 here
            operation["responses"]["default"] = ERROR_RESPONSE
            operation["security"] = [{"key": []}]
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}


def _operation(route: AsgiRoute) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if route.streamed:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "JSON chunks, then [DONE]."}}
    schema = {"$ref": SCHEMA_REF.format(name=route.body.__name__)}
    responses: dict[str, Any] = {"200": {"description": "Success", "content": content, "headers": COST_HEADER}}
    if route.accepts == "always":
        responses = {"202": ACCEPTED_RESPONSE}
    elif route.accepts == "on request":
        responses["202"] = ACCEPTED_RESPONSE
    return {
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _PARAMETERS[route.accepts],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": responses,
    }
