"""Responses that are compressed although the request did not allow it."""

import asyncio
import gzip
import zlib

import brotli  # type: ignore[import-untyped]
import pytest
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
)
from inference_worker.providers.openai.chat import OpenaiProvider
from inference_worker.providers.transport.content_encoding import MAX_PIECE_BYTES, new_decoder
from raw_http_server import RawHttpServer, close, post
from worker_fakes import a_body, text_of

STREAM = b'data: {"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODINGS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:])),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("identity", bytes),
]


def response(body: bytes, encoding: str, *, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-encoding: {encoding}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
async def test_an_answer_is_decoded(encoding: str, compress):
    body = b'{"a": "%s"}' % (b"x" * 500_000)
    async with RawHttpServer(response(compress(body), encoding)).client() as client:
        assert await post(client) == body
        assert await post(client) == body


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
async def test_a_stream_is_decoded_however_it_is_cut(encoding: str, compress):
    complete = response(compress(STREAM), encoding, content_type="text/event-stream")
    async with RawHttpServer(*(complete[at : at + 1] for at in range(len(complete)))).client() as client:
        completion = await OpenaiProvider(client).open("m", a_body(stream=True), stream=True)
        payloads = list(await completion.read())
        assert await completion.read() == ()

    assert text_of(payloads) == "ab"


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
async def test_the_words_of_an_error_are_decoded(encoding: str, compress):
    body = compress(b'{"error": {"message": "too long"}}')
    async with RawHttpServer(response(body, encoding, status="400 Bad")).client() as client:
        with pytest.raises(UpstreamRejected, match="too long"):
            await post(client)


async def test_a_few_bytes_that_stand_for_many_are_refused():
    bomb = gzip.compress(b" " * 50_000_000)
    async with RawHttpServer(response(bomb, "gzip")).client(max_response_bytes=1_000_000) as client:
        with pytest.raises(UpstreamProtocolError, match="too large"):
            await post(client)


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS[:6])
def test_a_piece_is_bounded(encoding: str, compress):
    decoder = new_decoder(encoding.lower())
    assert decoder is not None
    body = b"a" * (3 * MAX_PIECE_BYTES)
    pieces = [decoder.decode(compress(body))]
    while decoder.pending:
        pieces.append(decoder.decode(b""))

    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 2 * MAX_PIECE_BYTES
    assert decoder.complete


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_body_that_is_not_what_its_header_says_is_a_protocol_error(encoding: str):
    async with RawHttpServer(response(b"\xff not compressed", encoding), then=close).client() as client:
        with pytest.raises(UpstreamProtocolError, match=encoding):
            await post(client)


@pytest.mark.parametrize("encoding", ["zstd", "gzip, br", "x"])
async def test_an_unknown_encoding_is_named_and_an_error_keeps_its_status(encoding: str):
    async with RawHttpServer(response(b"?", encoding), then=close).client() as client:
        with pytest.raises(UpstreamProtocolError, match=encoding):
            await post(client)
    async with RawHttpServer(response(b"?", encoding, status="503 No"), then=close).client() as client:
        with pytest.raises(UpstreamFailed, match="503"):
            await post(client)


async def test_a_compressed_body_that_is_cut_is_interrupted():
    complete = gzip.compress(bytes(range(256)) * 99)
    server = RawHttpServer(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n" + complete[:-20], then=close
    )
    async with server.client() as client:
        with pytest.raises(UpstreamInterrupted):
            async with asyncio.timeout(30):
                await post(client)
