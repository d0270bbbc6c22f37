"""A batch's file is read line by line; a line that is no request is an error with its number."""

from collections.abc import AsyncIterator

import orjson
import pytest
from orchestrator.batches.lines import FileLimits, read_lines, split_lines
from orchestrator.batches.model import BatchFileInvalid, Line, line_job_id, output_file_id

CHAT = "/v1/chat/completions"
LIMITS = FileLimits(lines=10, line_bytes=1_000)
BODY = {"model": "demo", "messages": []}


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def request(custom_id: str = "a", **fields: object) -> bytes:
    return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": BODY} | fields)


async def lines_of(*given: bytes, limits: FileLimits = LIMITS) -> list[Line]:
    return [line async for line in read_lines(pieces(*given), CHAT, limits)]


async def test_requests_are_read_whatever_the_pieces_are() -> None:
    content = request("a") + b"\n" + request("b") + b"\r\n\n" + request("ü")
    for size in (1, 7, 64, len(content)):
        cut = [content[start : start + size] for start in range(0, len(content), size)]
        assert [(line.number, line.custom_id, line.error) for line in await lines_of(*cut)] == [
            (1, "a", None),
            (2, "b", None),
            (4, "ü", None),
        ]


async def test_a_byte_order_mark_is_ignored() -> None:
    (line,) = await lines_of(b"\xef\xbb\xbf" + request("a"))
    assert line.error is None
    assert orjson.loads(line.body) == BODY


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b'{"custom_id": "a"', None),
        (b"[1]", None),
        (b"\xff\xfe", None),
        (b"{" * 900, None),
        (request(custom_id=""), "custom_id"),
        (orjson.dumps({"url": CHAT, "body": BODY}), "custom_id"),
        (request(custom_id="x" * 513), "custom_id"),
        (request(method="GET"), "method"),
        (request(url="/v1/embeddings"), "url"),
        (request(body=None), "body"),
        (request(body=BODY | {"stream": True}), "body.stream"),
        (request(body="?").replace(b'"?"', b'{"a":' * 300 + b"1" + b"}" * 300), "body"),
    ],
)
async def test_a_line_that_is_no_request_is_an_error_with_its_number(raw: bytes, param: str | None) -> None:
    limits = FileLimits(lines=10, line_bytes=5_000)
    first, second, third = await lines_of(request("before") + b"\n" + raw + b"\n" + request("after"), limits=limits)

    assert first.error is None
    assert third.error is None
    assert second.error is not None
    assert second.number == 2
    assert second.error.param == param
    assert "line 2" in second.error.message
    assert second.error.reason == "BATCH_LINE_INVALID"


async def test_the_first_of_two_lines_with_the_same_custom_id_is_run() -> None:
    lines = await lines_of(request("a") + b"\n" + request("b") + b"\n" + request("a"))
    assert [line.error and line.error.reason for line in lines] == [None, None, "DUPLICATE_CUSTOM_ID"]


async def test_a_line_that_is_too_long_is_an_error_and_is_not_kept() -> None:
    long = b"x" * 5_000
    cut = [piece async for piece in split_lines(pieces(long[:2_000], long[2_000:] + b"\nab\n", b"c"), 1_000)]
    assert cut == [(1, None), (2, b"ab"), (3, b"c")]
    assert [line.error is not None for line in await lines_of(long + b"\n" + request("a"))] == [True, False]


async def test_a_file_with_too_many_requests_is_refused() -> None:
    content = b"\n".join(request(str(number)) for number in range(3))
    with pytest.raises(BatchFileInvalid):
        await lines_of(content, limits=FileLimits(lines=2, line_bytes=1_000))
    assert len(await lines_of(content, limits=FileLimits(lines=3, line_bytes=1_000))) == 3


async def test_blank_lines_are_no_requests() -> None:
    assert await lines_of(b"\n  \r\n\t\n") == []


def test_ids_of_jobs_are_the_same_each_time_and_in_the_order_of_the_lines() -> None:
    batch = "batch_019ac2b51c007000800000000000abcd"
    numbers = [1, 2, 3, 99_999, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]
    ids = [line_job_id(batch, number) for number in numbers]

    assert ids == sorted(set(ids))
    assert ids == [line_job_id(batch, number) for number in numbers]
    for job_id in ids:
        number = int(job_id.removeprefix("job_"), 16)
        assert len(job_id) == len("job_") + 32
        assert (number >> 76 & 0xF, number >> 62 & 0b11) == (7, 0b10)
        assert number >> 80 == 0x019AC2B51C00
    assert set(ids).isdisjoint(line_job_id("batch_019ac2b51c007000800000000000abce", number) for number in numbers)


def test_ids_of_files_are_the_same_each_time_and_differ_by_kind() -> None:
    batch = "batch_019ac2b51c007000800000000000abcd"
    assert output_file_id(batch, "output") == output_file_id(batch, "output") != output_file_id(batch, "error")
    assert len(output_file_id(batch, "output")) == len("file-") + 32
