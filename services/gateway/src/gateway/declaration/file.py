"""Reads and writes the file. YAML, of which JSON is a part."""

from collections.abc import Mapping
from typing import Any

import yaml
from chassis.errors import ArgosyError, Kind
from pydantic import ValidationError

from gateway.declaration.schemas import Declaration

MAX_BYTES = 10_000_000


class InvalidDeclaration(ArgosyError, public=False):
    """The file is no YAML, or does not declare what it should. The message has the place."""

    kind, reason = Kind.INVALID, "INVALID_DECLARATION"


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise InvalidDeclaration(f"line {key_node.start_mark.line + 1}: {key!r} is no text; quote it")
            if key in seen:
                raise InvalidDeclaration(f"line {key_node.start_mark.line + 1}: {key!r} stands there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_declaration(text: bytes) -> Declaration:
    """Raises `InvalidDeclaration`."""
    if len(text) > MAX_BYTES:
        raise InvalidDeclaration(f"the file has more than {MAX_BYTES} bytes")
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise InvalidDeclaration(f"the file is no YAML: {' '.join(str(error).split())}") from error
    try:
        return Declaration.model_validate({} if document is None else document, strict=False)
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)[:10]
        )
        raise InvalidDeclaration(places) from None


def write_declaration(declaration: Declaration) -> str:
    """Write it without defaults."""
    document = declaration.model_dump(mode="json", exclude_defaults=True)
    return _dump(document) if document else "{}\n"


def _dump(document: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))
