"""JSON, and lines of JSON: every value beside its path, so that a passage says what its values mean."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from retrieval.parsing import plain
from retrieval.parsing.blocks import coalesce
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile
from retrieval.parsing.text_encoding import find_encoding

# An escape at a time, so that the second of two backslashes begins none: a whole pair, half of one, or any other.
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """A line for each value: "order.items[0].name: Quillstone". Lines of JSON are documents one after the other.

    Raises UnindexableFile for what is not JSON.
    """
    encoding = find_encoding(document)
    yield from encoding.warnings
    source = "".join(plain.pieces(document, encoding.codec)).removeprefix("\ufeff")
    source = _ESCAPES.sub(lambda found: r"\ufffd" if found[1] else found[0], source)
    yield from coalesce(0, _lines(_documents(source)))


def _documents(source: str) -> Iterator[Any]:
    try:
        yield orjson.loads(source)
    except orjson.JSONDecodeError as error:
        lines = [line for line in source.splitlines() if line.strip()]
        if len(lines) < 2:
            raise _no_json(str(error)) from None
        for number, line in enumerate(lines, start=1):
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as wrong:
                raise _no_json(f"line {number}: {wrong}") from None


def _no_json(why: str) -> UnindexableFile:
    return UnindexableFile(IngestionErrorCode.FILE_TYPE_MISMATCH, f"the file is not JSON: {why}")


def _lines(documents: Iterator[Any]) -> Iterator[str]:
    for document in documents:
        yield from _values("", document)
        yield "\n"


def _values(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _values(f"{path}.{key}" if path else key, item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(f"{path}[{index}]", item)
    elif value is not None and value != "":
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        yield f"{path}: {text}\n" if path else f"{text}\n"
