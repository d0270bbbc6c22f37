"""JSON by orjson."""

import orjson
from chassis.errors import InvalidRequest


class OrjsonBodies:
    """Reads and writes bodies. Numbers that a 64-bit integer cannot hold become the nearest float."""

    def parse(self, body: bytes) -> object:
        """Read a body. Raises `InvalidRequest` for what is not JSON in UTF-8."""
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error

    def render(self, document: object) -> bytes:
        """Write a body. Raises `InvalidRequest` for one that is nested too deeply."""
        try:
            return orjson.dumps(document)
        except orjson.JSONEncodeError as error:
            raise InvalidRequest(f"the body cannot be passed on: {error}") from error
