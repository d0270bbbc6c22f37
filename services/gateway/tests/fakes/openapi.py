"""Requests that an OpenAPI document allows, by hypothesis."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

MAX_ITEMS = 4  # of arrays and objects: enough to have several, and small enough for many examples
# The years that every database of the fleet has; JSON Schema cannot say it.
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as bounds
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timedelta(minutes=minutes))
TEXT = st.characters(exclude_categories=["Cs"])  # surrogates are not Unicode text


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    method: str
    path: str
    spec: dict[str, Any] = field(repr=False, hash=False, compare=False)
    document: dict[str, Any] = field(repr=False, hash=False, compare=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def body(self) -> tuple[str, dict[str, Any]] | None:
        """The content type and schema of the body."""
        contents = self.spec.get("requestBody", {}).get("content", {})
        return next(((kind, content["schema"]) for kind, content in contents.items()), None)

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return schema


@dataclass
class ApiRequest:
    """A request, ready to be sent or to be spoiled."""

    path: str
    query: dict[str, Any]
    content_type: str = ""
    body: Any = None

    def arguments(self) -> dict[str, Any]:
        """Arguments of httpx."""
        found: dict[str, Any] = {"params": {name: as_text(value) for name, value in self.query.items()}}
        if self.content_type == "multipart/form-data":
            fields = dict(self.body)
            found |= {"files": {"file": ("name.txt", fields.pop("file").encode())}, "data": fields}
        elif self.content_type:
            found["json"] = self.body
        return found


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        Operation(method.upper(), path, spec, document)
        for path, methods in document["paths"].items()
        for method, spec in methods.items()
    ]


def valid_requests(operation: Operation) -> st.SearchStrategy[ApiRequest]:
    """Requests that the document allows."""
    parameters = operation.spec.get("parameters", [])
    path_values = {
        each["name"]: path_segments(each["schema"], operation) for each in parameters if each["in"] == "path"
    }
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for each in parameters:
        if each["in"] == "query":
            kind = required if each.get("required") else optional
            kind[each["name"]] = values(each["schema"], operation).filter(lambda value: value is not None)
    content_type, schema = operation.body or ("", {})
    return st.builds(
        lambda path, query, body: ApiRequest(path, query, content_type, body),
        st.fixed_dictionaries(path_values).map(lambda found: filled(operation.path, found)),
        st.fixed_dictionaries(required, optional=optional),
        values(schema, operation) if content_type else st.none(),
    )


def filled(template: str, found: dict[str, str]) -> str:
    """The path of a template."""
    for name, value in found.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


def path_segments(schema: dict[str, Any], operation: Operation) -> st.SearchStrategy[str]:
    # A client resolves `.` and `..` before it sends them.
    return values(schema, operation).filter(lambda value: value not in ("", ".", ".."))


def values(schema: dict[str, Any], operation: Operation) -> st.SearchStrategy[Any]:
    """Values that a schema allows. Raises NotImplementedError for what it does not know."""
    if "$ref" in schema:
        # Later, because a schema may contain itself, as filters do.
        return st.deferred(lambda: values(operation.resolve(schema), operation))
    if "anyOf" in schema:
        return st.one_of([values(choice, operation) for choice in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    return values_of_type(schema, operation)


def values_of_type(schema: dict[str, Any], operation: Operation) -> st.SearchStrategy[Any]:
    match schema.get("type"):
        case "string":
            return strings(schema)
        case "array":
            least = schema.get("minItems", 0)
            most = max(least, min(schema.get("maxItems", MAX_ITEMS), MAX_ITEMS))
            return st.lists(values(schema.get("items", {}), operation), min_size=least, max_size=most)
        case "object":
            return objects(schema, operation)
    return scalars(schema)


def scalars(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    match schema.get("type"):
        case "integer":
            return st.integers(schema.get("minimum", -(2**70)), schema.get("maximum", 2**70))
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case None:
            return st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(TEXT, max_size=4))
    raise NotImplementedError(f"{schema}")


def strings(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    if schema.get("format") == "date-time":
        return st.builds(lambda time, offset: (time + offset).isoformat(), TIMES, OFFSETS)
    if "pattern" in schema:
        # `$` matches before a final newline in Python, and not in JSON Schema.
        pattern = schema["pattern"]
        found = st.from_regex(pattern, alphabet=TEXT).filter(
            lambda text: not (pattern.endswith("$") and text.endswith("\n"))
        )
        return found.filter(lambda text: least <= len(text) <= most)
    return st.text(TEXT, min_size=least, max_size=min(most, least + 16))


def objects(schema: dict[str, Any], operation: Operation) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: values(found, operation) for name, found in schema.get("properties", {}).items()}
    required = {name: properties.pop(name) for name in schema.get("required", ())}
    fixed = st.fixed_dictionaries(required, optional=properties)
    most = min(schema.get("maxProperties", MAX_ITEMS), MAX_ITEMS)
    if schema.get("additionalProperties", False) is False or not most:
        return fixed
    more = schema["additionalProperties"] if schema["additionalProperties"] is not True else {}
    named = schema.get("propertyNames", {})
    names = st.sampled_from(named["enum"]) if "enum" in named else strings({"maxLength": 8} | named)
    return st.builds(
        lambda extra, known: extra | known, st.dictionaries(names, values(more, operation), max_size=most), fixed
    )


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
