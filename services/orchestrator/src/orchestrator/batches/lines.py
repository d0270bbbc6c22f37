"""Reads a batch's file line by line, in memory for one line and one digest per `custom_id`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from orchestrator.batches.model import BatchFileInvalid, BatchLineInvalid, DuplicateCustomId, Line

MAX_CUSTOM_ID_CHARACTERS = 512
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class FileLimits:
    """The most that a batch's file may have."""

    lines: int
    line_bytes: int


async def read_lines(pieces: AsyncIterator[bytes], endpoint: str, limits: FileLimits) -> AsyncIterator[Line]:
    """Yield each line that is not blank: a request, or an error. Raises BatchFileInvalid for too many lines.

    Lines end with LF or CRLF; a byte order mark is ignored. A line that is too long is skipped, and is an error.
    """
    seen: set[bytes] = set()
    count = 0
    async for number, raw in split_lines(pieces, limits.line_bytes):
        if raw is not None and not raw.strip():
            continue
        count += 1
        if count > limits.lines:
            raise BatchFileInvalid(f"the file has more than {limits.lines} requests", param="input_file_id")
        if raw is None:
            error = BatchLineInvalid(f"line {number} has more than {limits.line_bytes} bytes")
            yield Line(number, None, error=error)
        else:
            yield _unique(parse_line(number, raw, endpoint), seen)


async def split_lines(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yield the number of each line and its bytes; None for one of more than `max_bytes`, which is not kept."""
    number, pending, too_long = 1, bytearray(), False
    async for piece in pieces:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            if not too_long and len(pending) + end - start <= max_bytes:
                pending += piece[start:end]
                yield number, _without_bom(bytes(pending), number)
            else:
                yield number, None
            number, pending, too_long, start = number + 1, bytearray(), False, end + 1
        if too_long or len(pending) + len(piece) - start > max_bytes:
            pending, too_long = bytearray(), True
        else:
            pending += piece[start:]
    if pending or too_long:
        yield number, None if too_long else _without_bom(bytes(pending), number)


def parse_line(number: int, raw: bytes, endpoint: str) -> Line:
    """Read one line: OpenAI's `{"custom_id", "method", "url", "body"}`."""
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return Line(number, None, error=BatchLineInvalid(f"line {number} is no JSON: {error.msg}"))
    if not isinstance(request, dict):
        return Line(number, None, error=BatchLineInvalid(f"line {number} is no JSON object"))
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS:
        message = f"line {number}: custom_id must be a string of 1 to {MAX_CUSTOM_ID_CHARACTERS} characters"
        return Line(number, None, error=BatchLineInvalid(message, param="custom_id"))
    problem = _problem(request, endpoint)
    if problem is not None:
        param, message = problem
        return Line(number, custom_id, error=BatchLineInvalid(f"line {number}: {message}", param=param))
    try:
        body = orjson.dumps(request["body"])
    except orjson.JSONEncodeError:
        # It writes fewer levels than it reads.
        deep = BatchLineInvalid(f"line {number}: body is nested too deeply", param="body")
        return Line(number, custom_id, error=deep)
    return Line(number, custom_id, body)


def _problem(request: dict[str, Any], endpoint: str) -> tuple[str, str] | None:
    """Return the field at fault and what is wrong with it."""
    if request.get("method", "POST") != "POST":
        return "method", "method must be POST"
    if request.get("url") != endpoint:
        return "url", f"url must be {endpoint}, the endpoint of the batch"
    body = request.get("body")
    if not isinstance(body, dict):
        return "body", "body must be a JSON object"
    if body.get("stream"):
        return "body.stream", "stream must be false: the answer is a line of a file"
    return None


def _unique(line: Line, seen: set[bytes]) -> Line:
    if line.custom_id is None:
        return line
    # A digest takes less memory than an id of up to 512 characters.
    digest = blake2b(line.custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if digest in seen:
        message = f"line {line.number}: an earlier line has the same custom_id"
        return Line(line.number, line.custom_id, error=DuplicateCustomId(message, param="custom_id"))
    seen.add(digest)
    return line


def _without_bom(line: bytes, number: int) -> bytes:
    return line.removeprefix(BOM) if number == 1 else line
