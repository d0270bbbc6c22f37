"""Lines of the log, kept where a test can look at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from chassis.telemetry.logs import writing_to
from chassis.telemetry.output import Output


@contextmanager
def captured_lines() -> Iterator[list[dict[str, Any]]]:
    """Keep what is logged within a block, as it would have been written."""
    kept = _Kept()
    with writing_to(kept):
        yield kept.lines


class _Kept(Output):
    """An output that is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def patient(self, line: bytes) -> None:
        """Keep a line."""
        self.lines.append(orjson.loads(line))

    pressing = patient
