"""Captured log lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from chassis.telemetry.logs import Output, writing_to


@contextmanager
def captured_lines() -> Iterator[list[dict[str, Any]]]:
    """Capture what is logged within a block, as it would have been written."""
    output = _CapturedOutput()
    with writing_to(output):
        yield output.lines


class _CapturedOutput(Output):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def write_buffered(self, line: bytes) -> None:
        self.lines.append(orjson.loads(line))

    write_now = write_buffered
