"""A document of the corpus: what it holds, and the text that a reader of it sees, in order."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """`text` is the expected text with white space made one space; `warnings` are the expected codes."""

    name: str
    filename: str
    content: bytes
    text: str
    warnings: frozenset[str] = frozenset()


def zipped(parts: dict[str, str | bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()
