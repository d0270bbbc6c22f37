"""The parsing process can read its document and write its blocks, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block
from retrieval.parsing.subprocess_parser import SubprocessParser

from services.retrieval.tests.corpus import office, pdf, records, text, web, word
from services.retrieval.tests.corpus.samples import Sample

LAST_OF_EACH = [samples[-1] for samples in (word.SAMPLES, web.SAMPLES, text.SAMPLES, pdf.SAMPLES)]
CORPUS = [*LAST_OF_EACH, office.SAMPLES[0], office.SAMPLES[1], *(s for s in records.SAMPLES if s.filename != "a.csv")]

# Runs in a process that has entered the sandbox; prints what it could do all the same.
ATTEMPTS = """
import os, socket, sys
from retrieval.parsing import sandbox
parent = os.getppid()
attempts = {
    "read a file": lambda: open("/etc/passwd").read(),
    "read the environment of the service": lambda: open(f"/proc/{parent}/environ", "rb").read(),
    "list a folder": lambda: os.listdir("/"),
    "write a file": lambda: open(sys.argv[1], "w").write("x"),
    "delete a file": lambda: os.remove(sys.argv[2]),
    "connect": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a local socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "start a process": lambda: os.fork() or os._exit(0),
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "signal the service": lambda: os.kill(parent, 0),
}
print(sorted(sandbox.enter()))
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        continue
    print(name)
import ast  # a module that is loaded late
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the filters are those of Linux")
def test_the_sandbox_leaves_no_files_network_or_processes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.touch()

    ended = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, tmp_path / "written", kept],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    missing, *done = ended.stdout.splitlines()
    if missing == "[]":
        assert (ended.stderr, done) == ("", [])
    else:
        # An old kernel: what one filter refuses is refused, and the service says which filter is missing.
        assert missing in {"['landlock']", "['seccomp']", "['landlock', 'seccomp']"}


async def data(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: f"{sample.filename}: {sample.name}")
async def test_a_document_of_each_format_is_read_in_the_sandbox(sample: Sample) -> None:
    async with SubprocessParser(Limits()) as parser:
        found = [item async for item in parser.blocks(sample.filename, data(sample.content))]

    assert " ".join("".join(item.text for item in found if isinstance(item, Block)).split()) == sample.text
    assert {item.code for item in found if not isinstance(item, Block)} == sample.warnings


async def test_a_missing_filter_is_logged_once_and_the_document_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr("retrieval.parsing.subprocess_parser.log", _Log(logged))
    lines = [{"no_sandbox": {"landlock": "Function not implemented"}}, {"page": 0, "text": "text"}, {"end": True}]

    async with SubprocessParser(Limits(), preload=False) as parser:
        for _ in range(2):
            waiting = iter(lines)

            async def line(*_: object, waiting: Any = waiting) -> dict[str, Any]:
                return dict(next(waiting))

            monkeypatch.setattr(parser, "_line", line)
            found = [item async for item in parser.blocks("a.txt", data(b"text"))]
            assert found == [Block(0, "text")]

    assert logged == [{"event": "parser_sandbox_incomplete", "missing": {"landlock": "Function not implemented"}}]


class _Log:
    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = entries

    def warning(self, event: str, **values: Any) -> None:
        self._entries.append({"event": event, **values})
