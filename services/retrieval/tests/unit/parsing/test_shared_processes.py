"""Short texts of one owner are parsed by one process; no document harms another by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from io import BytesIO

import orjson
import psutil
import pytest
from retrieval.parsing import child, shared_processes
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, UnindexableFile
from retrieval.parsing.shared_processes import MAX_BYTES, SharedProcess, may_share
from retrieval.parsing.subprocess_parser import SubprocessParser

from services.retrieval.tests import documents
from services.retrieval.tests.unit.parsing.test_subprocess_parser import data, running


@pytest.fixture
async def parser() -> AsyncIterator[SubprocessParser]:
    async with SubprocessParser(Limits()) as parser:
        yield parser


async def read(parser: SubprocessParser, filename: str, content: bytes, owner: str = "one") -> list[object]:
    return [item async for item in parser.blocks(filename, data(content), owner)]


async def test_texts_of_one_owner_are_parsed_by_one_process(parser: SubprocessParser) -> None:
    pids = set()
    for number in range(5):
        assert await read(parser, "a.txt", f"text {number}".encode()) == [Block(0, f"text {number}")]
        pids |= {process.pid for process in running()}

    assert len(pids) == 1


@pytest.mark.parametrize(
    ("filename", "content"),
    [("a.csv", b"name,age\nAda,36\n"), ("a.json", b'{"name": "Ada"}'), ("a.md", b"# A *guide*\n"), ("a.txt", b"Ada")],
)
async def test_a_text_has_the_same_blocks_in_a_process_of_its_own(
    parser: SubprocessParser, filename: str, content: bytes
) -> None:
    await read(parser, "before.txt", b"another text")

    assert await read(parser, filename, content) == await read(parser, filename, content, owner="")


async def test_owners_share_no_process(parser: SubprocessParser) -> None:
    await read(parser, "a.txt", b"text", owner="one")
    first = {process.pid for process in running()}
    await read(parser, "a.txt", b"text", owner="two")

    assert len(first) == 1
    assert len({process.pid for process in running()} - first) == 1


async def test_texts_that_come_at_once_have_their_own_blocks(parser: SubprocessParser) -> None:
    found = await asyncio.gather(*(read(parser, "a.txt", f"text {n}".encode(), f"owner {n % 3}") for n in range(30)))

    assert found == [[Block(0, f"text {n}")] for n in range(30)]


@pytest.mark.parametrize(
    ("filename", "content", "shares"),
    [
        ("a.txt", b"text", True),
        ("a.CSV", b"a,b", True),
        ("a.md", b"# A guide", True),
        ("a.md", b"# A <b>guide</b>", False),
        ("a.md", b"\xff\xfea\0", False),
        ("a.html", b"<p>text", False),
        ("a.pdf", documents.a_pdf("text"), False),
        ("a.docx", documents.a_docx("text"), False),
        ("a.eml", b"From: a\n\ntext", False),
        ("a.txt", b"x" * (MAX_BYTES + 1), False),
    ],
)
def test_only_short_documents_that_no_library_in_c_reads_share_a_process(
    filename: str, content: bytes, *, shares: bool
) -> None:
    assert may_share(filename, content) is shares


async def test_a_longer_text_is_read_whole(parser: SubprocessParser) -> None:
    content = b"A line of text.\n" * 20_000

    found = await read(parser, "a.txt", content)

    assert "".join(item.text for item in found if isinstance(item, Block)) == content.decode()


async def test_a_document_that_cannot_be_parsed_ends_its_process(parser: SubprocessParser) -> None:
    await read(parser, "a.txt", b"text")
    (before,) = running()

    with pytest.raises(UnindexableFile) as refused:
        await read(parser, "a.json", b"\0" * 40)

    assert refused.value.code == "file_type_mismatch"
    assert before not in running()
    assert await read(parser, "a.txt", b"text") == [Block(0, "text")]


async def test_a_process_that_was_killed_between_two_documents_fails_neither(parser: SubprocessParser) -> None:
    await read(parser, "a.txt", b"text")
    for process in running():
        process.kill()

    assert await read(parser, "a.txt", b"the next text") == [Block(0, "the next text")]


async def test_a_text_that_is_cut_off_by_what_came_before_is_read_alone_and_once(
    parser: SubprocessParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = SharedProcess.send

    def damaged(self: SharedProcess, filename: str, content: bytes) -> None:
        if self.documents == 0:
            send(self, filename, content)
            return
        # The rest of what is announced never comes, as after a document that confused the process.
        self.documents += 1
        self.ended_document = False
        self.writer.write(b'{"suffix":".txt","bytes":%d}\n' % len(content) + content[: len(content) // 2])
        self.fork._connection.kill(self.fork._number)

    monkeypatch.setattr(SharedProcess, "send", damaged)
    text = b"A line of text.\n" * 3_000
    assert await read(parser, "a.txt", text) == await read(parser, "a.txt", text)


async def test_reading_that_stops_early_ends_the_process(parser: SubprocessParser) -> None:
    async with aclosing(parser.blocks("a.txt", data(b"A line of text.\n" * 4_000), "one")) as found:
        await anext(found)
        assert running()

    assert running() == []


async def test_a_process_is_replaced_after_so_many_documents(
    parser: SubprocessParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_processes, "MAX_DOCUMENTS", 2)
    pids = []
    for _ in range(4):
        async with aclosing(parser.blocks("a.txt", data(b"text"), "one")) as found:
            await anext(found)
            pids += [process.pid for process in running()]
            assert [item async for item in found] == []

    assert len(set(pids)) == 2


async def test_an_idle_process_ends_by_itself(parser: SubprocessParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_processes, "IDLE_SECONDS", 0.01)
    await read(parser, "a.txt", b"text")

    await until(lambda: running() == [])


async def test_a_bounded_number_of_processes_waits(parser: SubprocessParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_processes, "MAX_IDLE", 2)
    for owner in range(6):
        await read(parser, "a.txt", b"text", f"owner {owner}")
        assert len(parser._shared._idle) <= 2

    await until(lambda: len(running()) <= 2)


async def test_the_end_of_the_service_ends_processes_that_wait() -> None:
    async with SubprocessParser(Limits()) as parser:
        await read(parser, "a.txt", b"text")
        processes = psutil.Process().children(recursive=True)
        assert len(processes) == 2

    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []


@pytest.mark.parametrize(("cpu_seconds", "read"), [(10**6, 2), (0, 1)])
def test_a_process_that_has_used_much_cpu_takes_no_further_document(
    monkeypatch: pytest.MonkeyPatch, cpu_seconds: int, read: int
) -> None:
    monkeypatch.setattr(child, "_enter", lambda *_: None)  # this process stays as it is
    requests, lines = BytesIO(b'{"suffix": ".txt", "bytes": 4}\ntext' * 2), BytesIO()

    child.parse_many(requests, lines, Limits(cpu_seconds=cpu_seconds))

    written = [orjson.loads(line) for line in lines.getvalue().splitlines()]
    assert written == [{"page": 0, "text": "text"}, {"end": True, "spent": cpu_seconds == 0}] * read


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)
