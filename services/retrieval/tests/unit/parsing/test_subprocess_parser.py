"""Documents are parsed in a child process: good ones become text, others an error code."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import IO

import psutil
import pytest
from chassis.errors import Unavailable
from retrieval.parsing.blocks import MAX_BLOCK_CHARACTERS, to_blocks
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, UnindexableFile
from retrieval.parsing.subprocess_parser import SubprocessParser

from services.retrieval.tests import documents

MEGABYTE = 1024 * 1024
TIGHT = Limits(memory_bytes=320 * MEGABYTE, cpu_seconds=30, expanded_bytes=32 * MEGABYTE)

MARKDOWN = """# The *Guide*

Some `code` and a [link](https://example.com/x) to **it**.

- one
- two

| a | b |
|---|---|
| 1 | 2 |

```py
x = "# no heading"
```
![A picture](p.png)
"""
HTML = """<html><head><title>Title &amp; more</title><style>p {}</style></head><body><nav>Menu</nav>
<h1>Head</h1><p>a<b>b</b>c &lt;d&gt;</p>tail<div>x<br>y</div><script>hidden()</script>
<table><tr><td>q<td>r</table></body>"""


async def data(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), MEGABYTE):
        yield content[start : start + MEGABYTE]


async def parsed(filename: str, content: bytes, limits: Limits = TIGHT) -> list[Block]:
    async with SubprocessParser(limits, preload=False) as parser:
        found = [item async for item in parser.blocks(filename, data(content))]
    return [item for item in found if isinstance(item, Block)]


async def error_code(filename: str, content: bytes, limits: Limits = TIGHT) -> str:
    with pytest.raises(UnindexableFile) as refused:
        await parsed(filename, content, limits)
    assert refused.value.message
    return refused.value.code


async def test_a_pdf_is_read_page_by_page() -> None:
    found = await parsed("guide.pdf", documents.a_pdf("The first page.", "", "The third page, about vessels."))

    assert found == [Block(1, "The first page."), Block(3, "The third page, about vessels.")]


async def test_a_word_document_is_read() -> None:
    found = await parsed("a.DOCX", documents.a_docx("The first paragraph.", "Größe and 東京."))

    assert found == [Block(0, "The first paragraph.\n\nGröße and 東京.\n\n")]


async def test_markdown_is_read_without_its_markup() -> None:
    [block] = await parsed("guide.md", MARKDOWN.encode())

    assert " ".join(block.text.split()) == (
        'The Guide Some code and a link to it. one two a b 1 2 x = "# no heading" A picture'
    )
    assert "The Guide\n\nSome" in block.text


async def test_html_is_read_as_a_browser_shows_it() -> None:
    title, body = await parsed("a.html", HTML.encode())

    assert title.text == "Title & more\n\n"
    assert body.text.split() == ["Head", "abc", "<d>", "tail", "x", "y", "q", "r"]
    assert "abc <d>\n\ntail" in body.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
async def test_plain_text_is_read_in_any_usual_encoding(encoding: str) -> None:
    assert await parsed("größe.txt", "Größe, naïve café.\r\nNext".encode(encoding)) == [
        Block(0, "Größe, naïve café.\nNext")
    ]


@pytest.mark.parametrize(
    ("filename", "content", "reason"),
    [
        ("a.exe", b"MZ", "unsupported_file"),
        ("noextension", b"text", "unsupported_file"),
        ("a.pdf", b"just text", "file_type_mismatch"),
        ("a.txt", documents.a_pdf("x"), "file_type_mismatch"),
        ("a.md", bytes(range(256)) * 10, "file_type_mismatch"),
        ("a.html", documents.a_docx("x"), "file_type_mismatch"),
        ("a.docx", documents.a_pdf("x"), "file_type_mismatch"),
        ("a.docx", documents.a_spreadsheet(), "file_type_mismatch"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 4096, "file_type_mismatch"),
        ("a.pdf", documents.an_encrypted_pdf("secret"), "encrypted_file"),
        ("a.docx", documents.an_encrypted_docx(), "encrypted_file"),
        ("a.pdf", documents.a_pdf("x" * 5_000)[:700], "unreadable_file"),
        ("a.pdf", b"%PDF-1.7\nrubbish", "unreadable_file"),
        ("a.docx", documents.a_docx("x")[:9_000], "unreadable_file"),
        ("a.docx", documents.a_docx_of(b"<w:document"), "unreadable_file"),
        ("a.docx", documents.a_docx_bomb(40), "file_expands_too_much"),
        ("a.docx", documents.a_docx_of_laughs(), "file_expands_too_much"),
        ("a.txt", b"", "empty_file"),
        ("a.md", b" \n\t \n", "empty_file"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}-bytes",
)
async def test_unindexable_files_have_a_code(filename: str, content: bytes, reason: str) -> None:
    assert await error_code(filename, content) == reason


async def test_a_pdf_that_is_encrypted_without_a_password_is_read() -> None:
    assert await parsed("a.pdf", documents.an_encrypted_pdf("")) == [Block(1, "secret")]


async def test_a_pdf_of_pictures_has_no_text() -> None:
    assert await parsed("scan.pdf", documents.a_scanned_pdf()) == []


async def test_a_pdf_bomb_is_stopped() -> None:
    assert await error_code("bomb.pdf", documents.a_pdf_bomb(200)) == "file_expands_too_much"


async def test_a_document_that_needs_too_much_memory_is_rejected() -> None:
    page = b"<p>The quick <b>brown</b> fox.</p>" * 1_000_000

    assert await error_code("big.html", b"<html><body>" + page) == "file_expands_too_much"


async def test_text_beyond_the_limit_is_rejected() -> None:
    assert await error_code("big.txt", b"A line of text.\n" * 2_200_000) == "file_expands_too_much"


async def test_a_parser_that_takes_too_long_is_killed() -> None:
    deep = b"<div>" * 300_000

    assert await error_code("deep.html", deep, Limits(block_seconds=0.5)) == "file_expands_too_much"
    assert await error_code("deep.html", deep, Limits(cpu_seconds=1)) == "file_expands_too_much"


def test_the_cpu_limit_sends_its_own_signal() -> None:
    endless = "from retrieval.parsing.limits import Limits\nLimits(cpu_seconds=1).apply()\nwhile True:\n    pass"

    ended = subprocess.run([sys.executable, "-c", endless], check=False, timeout=60)

    assert ended.returncode == -signal.SIGXCPU


def running() -> list[psutil.Process]:
    """The processes that parse documents, without their template."""
    return [fork for template in psutil.Process().children() for fork in template.children()]


async def test_a_killed_parser_raises_unindexable_file() -> None:
    async with (
        SubprocessParser(Limits()) as parser,
        aclosing(parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))) as found,
    ):
        await anext(found)
        for child in running():
            child.kill()
        with pytest.raises(UnindexableFile) as refused:
            async for _ in found:
                pass
    assert refused.value.code == "unreadable_file"


async def test_a_killed_template_fails_no_document_and_is_started_again() -> None:
    async with SubprocessParser(Limits()) as parser:
        async with aclosing(parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))) as found:
            items = [await anext(found)]
            forks = running()
            for template in psutil.Process().children():
                template.kill()
            items += [item async for item in found]
        assert items == await parsed("a.txt", b"A line of text.\n" * 100_000, Limits())
        _, alive = psutil.wait_procs(forks, timeout=30)
        assert sys.platform != "linux" or not alive, "its forks end with it"

        assert [item async for item in parser.blocks("a.txt", data(b"text"))] == [Block(0, "text")]


async def test_a_template_that_was_killed_while_it_was_idle_is_started_again() -> None:
    async with SubprocessParser(Limits(), preload=False) as parser:
        for owner in ("", "one", "one"):
            for template in psutil.Process().children():
                template.kill()
            assert [item async for item in parser.blocks("a.txt", data(b"text"), owner)] == [Block(0, "text")]


async def test_a_document_whose_template_is_killed_again_is_parsed_later() -> None:
    async with (
        SubprocessParser(Limits(), preload=False) as parser,
        aclosing(parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))) as found,
    ):
        await anext(found)
        killing = asyncio.create_task(kill_templates())
        with pytest.raises(Unavailable):
            async for _ in found:
                pass
        killing.cancel()


async def kill_templates() -> None:
    while True:
        for template in psutil.Process().children():
            template.kill()
        await asyncio.sleep(0.001)


async def test_cancelling_before_the_first_block_kills_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut_off(_: object, pipe: IO[bytes]) -> None:
        pipe.close()
        raise asyncio.CancelledError

    async with SubprocessParser(Limits()) as parser:
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.get_running_loop(), "connect_read_pipe", cut_off)
            with pytest.raises(asyncio.CancelledError):
                [item async for item in parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))]
            assert running() == []


async def test_closing_the_blocks_early_kills_the_parser() -> None:
    async with SubprocessParser(Limits()) as parser:
        async with aclosing(parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))) as found:
            await anext(found)
            assert running()

        assert running() == []


async def test_the_end_of_the_service_ends_the_template_and_its_forks() -> None:
    async with SubprocessParser(Limits()) as parser:
        found = parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))
        await anext(found)
        processes = psutil.Process().children(recursive=True)
        assert len(processes) == 2

    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []
    with pytest.raises(Unavailable):
        async for _ in found:
            pass


@pytest.mark.parametrize("open_files", [0, 300])
async def test_a_document_finds_no_files_of_the_template_and_of_other_documents(open_files: int) -> None:
    with ExitStack() as stack:
        # The connection has a high number in a service with many files.
        for _ in range(open_files):
            stack.enter_context(Path(os.devnull).open())
        await _expect_three_files_and_the_lines_in_forks()


async def _expect_three_files_and_the_lines_in_forks() -> None:
    async with SubprocessParser(Limits()) as parser:
        one, two = (parser.blocks("a.txt", data(b"A line of text.\n" * 100_000)) for _ in range(2))
        async with aclosing(one), aclosing(two):
            await anext(one)
            await anext(two)
            for fork in running():
                files = {int(entry.name) for entry in Path(f"/proc/{fork.pid}/fd").iterdir()}
                assert files == {0, 1, 2, 3}
                assert fork.num_threads() == 1


async def test_three_times_as_many_pages_take_no_more_memory() -> None:
    """Of more pages than the pipe holds: a reader that has ended cannot be measured."""

    async def peak(pages: int) -> int:
        most = 0
        content = documents.a_pdf(
            *(f"Page {n}. " + "Vessels carry cargo from port to port. " * 12 for n in range(pages))
        )
        count = 0
        async with SubprocessParser(TIGHT) as parser:
            async for _ in parser.blocks("a.pdf", data(content)):
                count += 1
                for reader in running() if count % 10 == 0 else ():
                    with suppress(psutil.NoSuchProcess):
                        most = max(most, reader.memory_info().rss)
        assert count == pages
        assert most > 0
        return most

    few, many = await peak(200), await peak(600)

    assert many - few < 16 * MEGABYTE


async def test_the_parser_gets_no_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVAL_SECRET", "s3cret")
    async with (
        SubprocessParser(Limits()) as parser,
        aclosing(parser.blocks("a.txt", data(b"A line of text.\n" * 100_000))) as found,
    ):
        await anext(found)
        for child in psutil.Process().children(recursive=True):
            assert "RETRIEVAL_SECRET" not in child.environ()


async def test_errors_of_the_data_are_raised_unchanged() -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"text"
        raise Unavailable("the object store does not answer")

    async with SubprocessParser(Limits(), preload=False) as parser:
        with pytest.raises(Unavailable):
            [block async for block in parser.blocks("a.txt", broken())]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("size", [10, 2 * MEGABYTE], ids=["fits the buffer", "does not"])
async def test_a_full_disk_raises_unavailable(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("r+b"))  # noqa: SIM115

    with pytest.raises(Unavailable):
        await parsed("a.txt", b"x" * size)


async def test_a_failing_temporary_folder_raises_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)

    with pytest.raises(Unavailable):
        await parsed("a.txt", b"text")


async def test_ten_documents_are_parsed_at_the_same_time() -> None:
    texts = [f"Document {n}. " * 200 for n in range(10)]

    async def read(parser: SubprocessParser, text: str) -> list[str]:
        return [
            item.text.strip() async for item in parser.blocks("a.txt", data(text.encode())) if isinstance(item, Block)
        ]

    async with SubprocessParser(Limits()) as parser:
        found = await asyncio.gather(*(read(parser, text) for text in texts))

    assert found == [[text.strip()] for text in texts]


async def test_no_more_documents_are_parsed_at_once_than_allowed() -> None:
    async with SubprocessParser(Limits(), 1) as parser:
        first = parser.blocks("a.txt", data(b"A line of text.\n" * 1_000_000))  # more than the pipe holds
        await anext(first)
        second = asyncio.ensure_future(anext(parser.blocks("b.txt", data(b"text"))))
        await asyncio.wait([second], timeout=0.3)
        assert len(running()) == 1
        assert not second.done()

        await first.aclose()

        assert await second == Block(0, "text")


def test_text_is_cut_into_blocks_at_line_ends_and_nothing_is_lost() -> None:
    text = "".join(f"Line number {n} of the document.\n" for n in range(2_000))

    found = [block.text for block in to_blocks(7, text)]

    assert "".join(found) == text
    assert all(block.endswith("\n") and len(block) <= MAX_BLOCK_CHARACTERS for block in found)


def test_unprintable_characters_are_removed_from_text() -> None:
    [block] = to_blocks(1, "a\0b\x07c\ud800d\ufffee\r\nf\u2028g\n\n \n\nh")

    assert block.text == "abcde\nf\ng\n\nh"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits are those of Unix")
def test_limits_are_converted_to_json_and_back() -> None:
    assert Limits.from_json(TIGHT.to_json()) == TIGHT
