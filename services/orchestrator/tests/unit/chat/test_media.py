"""What images, sounds and documents of a request can cost."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from typing import Any

import pytest
from chassis.errors import InvalidRequest, Kind, RemoteError
from orchestrator.chat.candidates import TEMPLATE_TOKENS, chat_candidates
from orchestrator.chat.media import Media, MediaKind, dearest, find_media, media_tokens
from orchestrator.chat.parse import parse_chat
from orchestrator.routing.model import Provider, RouteCandidate
from values.money import NanoUsd, usd_to_nano_usd

from services.orchestrator.tests.fakes import FakeMeteringClient
from services.orchestrator.tests.harness import Harness

OPENAI = RouteCandidate("a", "gpt-4o", 100, provider=Provider.OPENAI)
MINI = RouteCandidate("a", "gpt-4o-mini", 100, provider=Provider.OPENAI)
NEWER = RouteCandidate("a", "gpt-9", 100, provider=Provider.OPENAI)
CLAUDE = RouteCandidate("a", "claude", 100, provider=Provider.ANTHROPIC)
GEMINI = RouteCandidate("a", "gemini", 100, provider=Provider.GEMINI)
UNKNOWN = RouteCandidate("a", "model", 100)
ALL = (OPENAI, MINI, NEWER, CLAUDE, GEMINI, UNKNOWN)


KINDS: tuple[object, ...] = ([], {}, None, 7, "image", "video_url", "document", "container_upload")


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\2\0\0\0" + b"\0" * 99


def jpeg(width: int, height: int) -> bytes:
    thumbnail = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 1, 1) + b"\3" + b"\0" * 9
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    return b"\xff\xd8" + exif + b"\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width) + b"\3" + b"\0" * 9


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + (width - 1 | (height - 1) << 14).to_bytes(4, "little")
    else:
        body = b"\0\0\0\x9d\1\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + body + b"\0" * 20


def pdf(pages: int, text: bytes, *, hidden: bool = True, more: bytes = b"") -> bytes:
    """A PDF whose page objects stand in a compressed stream, as most writers put them."""
    objects = b"".join(b"<< /Type /Page /Contents %d 0 R >>" % (number + 10) for number in range(pages))
    content = zlib.compress(text)
    made = b"%PDF-1.7\n" + more
    made += b"1 0 obj << /Filter /FlateDecode >> stream\n" + zlib.compress(objects) if hidden else objects
    return made + b"\nendstream endobj 10 0 obj << /Filter /FlateDecode >> stream\r\n" + content + b"\nendstream endobj"


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image(link: str, **fields: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": link, **fields}}


def file(data: bytes, kind: str = "application/pdf") -> dict[str, Any]:
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": url(data, kind)}}


def found(*parts: object) -> tuple[Media, ...]:
    text = {"type": "text", "text": "What is this?"}
    return find_media({"messages": [{"role": "user", "content": [text, *parts]}]})


def tokens(part: object, candidate: RouteCandidate) -> int:
    (media,) = found(part)
    return media_tokens(media, candidate)


def refused(*parts: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        found(*parts)
    assert "has no bound on its cost" in caught.value.message
    return caught.value


class TestImages:
    @pytest.mark.parametrize(
        "data",
        [
            *(png(1024, 512), jpeg(1024, 512), gif(1024, 512)),
            *(webp(kind, 1024, 512) for kind in (b"VP8X", b"VP8L", b"VP8 ")),
        ],
    )
    def test_the_size_is_read_from_the_header(self, data: bytes) -> None:
        (media,) = found(image(url(data)))

        assert media.size == (1024, 512)

    @pytest.mark.parametrize(
        ("candidate", "size", "expected"),
        [
            *((OPENAI, (1024, 1024), 85 + 4 * 170), (OPENAI, (2048, 4096), 85 + 6 * 170), (OPENAI, (64, 64), 85 + 170)),
            *((MINI, (64, 64), 2_833 + 5_667), (MINI, (9_000, 9_000), 2_833 + 4 * 5_667)),
            *((CLAUDE, (1000, 1000), 1_334), (CLAUDE, (8_000, 8_000), 4_784)),
            *((GEMINI, (3_072, 3_072), 16 * 258), (GEMINI, (300, 300), 2_240)),
        ],
    )
    def test_count_by_the_rule_of_the_provider(
        self, candidate: RouteCandidate, size: tuple[int, int], expected: int
    ) -> None:
        assert tokens(image(url(png(*size))), candidate) == expected

    def test_low_detail_is_cheap_where_the_provider_has_it(self) -> None:
        large = url(png(4_000, 4_000))

        assert tokens(image(large, detail="low"), OPENAI) == 85
        assert tokens(image(large, detail="LOW"), OPENAI) > 85
        assert tokens(image(large, detail="low"), CLAUDE) == 4_784

    @pytest.mark.parametrize("candidate", ALL)
    def test_a_link_or_an_unreadable_header_counts_as_the_largest(self, candidate: RouteCandidate) -> None:
        largest = tokens(image("https://example.org/ship.png"), candidate)

        assert tokens(image(url(b"\x89PNG broken")), candidate) == largest
        assert all(
            tokens(image(url(png(*size))), candidate) <= largest
            for size in [(1, 1), (1, 100_000), (100_000, 1), (768, 2_048), (3_072, 400), (65_000, 65_000)]
        )

    @pytest.mark.parametrize("size", [(1, 1), (500, 20), (1_024, 768), (3_000, 3_000)])
    def test_an_unknown_provider_counts_as_the_most_expensive(self, size: tuple[int, int]) -> None:
        part = image(url(png(*size)))

        assert tokens(part, UNKNOWN) >= max(tokens(part, candidate) for candidate in ALL)

    def test_the_base64_of_an_image_is_not_text(self) -> None:
        def bound(data: bytes) -> int:
            body = {"messages": [{"role": "user", "content": [image(url(data))]}]}
            chat = parse_chat(json.dumps(body).encode(), 100)
            media = find_media(chat.document)
            return chat_candidates(chat, [OPENAI], media, stream=False).candidates[0].bound.input_tokens

        assert bound(png(9, 9)) == bound(png(9, 9) + b"\0" * 500_000) < TEMPLATE_TOKENS + 1_000


class TestDocuments:
    @pytest.mark.parametrize("candidate", ALL)
    @pytest.mark.parametrize("hidden", [True, False])
    def test_a_pdf_counts_its_pages_and_its_text(self, candidate: RouteCandidate, hidden: bool) -> None:
        one = tokens(image("https://example.org/page.png"), candidate)

        assert tokens(file(pdf(40, b"word " * 100_000, hidden=hidden)), candidate) >= 40 * one + 500_000

    @pytest.mark.parametrize("wrap", [file, lambda data: image(url(data)), lambda data: image(url(data, "text/x"))])
    def test_a_pdf_is_a_document_in_any_wrapping(self, wrap: Any) -> None:
        (media,) = found(wrap(pdf(300, b"")))

        assert (media.kind, media.document.pages) == (MediaKind.DOCUMENT, 300)

    def test_photographs_in_a_pdf_are_no_text(self) -> None:
        photo = b"3 0 obj << /Subtype /Image /Filter /DCTDecode >> stream\n" + b"\xff" * 900_000 + b"\nendstream\n"

        assert tokens(file(pdf(1, b"few", more=photo)), CLAUDE) < 4_784 + 2_000

    def test_an_end_mark_inside_compressed_text_hides_nothing(self) -> None:
        stored = zlib.compressobj(0)
        text = stored.compress(b"endstream " * 20_000) + stored.flush()
        inner = b"3 0 obj <<>> stream\n" + text + b"\nendstream\n"

        assert tokens(file(pdf(1, b"", more=inner)), CLAUDE) >= 2 * 200_000

    @pytest.mark.parametrize(
        "data",
        [
            pdf(1, b"\0" * 17_000_000),
            pdf(1, b"", more=b"<< /Filter /LZWDecode >>"),
            pdf(1, b"", more=b"trailer << /Encrypt 5 0 R >>"),
            pdf(1, b"", more=b"/Contents 9 0 R /Contents 9 0 R"),
            b"PK\3\4" + b"\xff" * 100,
            b"\0\0\0\x20ftypisom" + b"\xff" * 100,
        ],
    )
    def test_what_cannot_be_bounded_is_refused_by_name(self, data: bytes) -> None:
        assert refused(image("https://example.org/a.png"), file(data)).param == "messages[0].content[2]"

    def test_text_counts_its_bytes(self) -> None:
        assert tokens(file("größe".encode() * 100, "text/plain"), OPENAI) == 700

    def test_base64_without_a_data_url_counts_too(self) -> None:
        part = {"type": "file", "file": {"file_data": base64.b64encode(pdf(7, b"")).decode()}}

        assert found(part)[0].document.pages == 7


class TestSound:
    @pytest.mark.parametrize("format_", ["wav", "mp3"])
    def test_counts_the_longest_that_its_bytes_can_last(self, format_: str) -> None:
        data = base64.b64encode(b"RIFF" + b"\0" * 60_000).decode()
        part = {"type": "input_audio", "input_audio": {"data": data, "format": format_}}

        assert tokens(part, OPENAI) >= 60 * 10
        assert tokens(part, GEMINI) >= 60 * 32

    @pytest.mark.parametrize(("format_", "data"), [("flac", b"fLaC"), ("wav", b"OggS"), (None, b"RIFF"), ([], b"RIFF")])
    def test_formats_that_compress_silence_away_are_refused(self, format_: object, data: bytes) -> None:
        encoded = base64.b64encode(data + b"\0" * 60).decode()

        refused({"type": "input_audio", "input_audio": {"data": encoded, "format": format_}})


@pytest.mark.parametrize(
    "part",
    [
        *({"type": kind} for kind in KINDS),
        {"image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": "a", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "https://example.org/a.pdf"}},
        image("https://example.org/a.PDF?x=1"),
        image("gs://bucket/film.mp4"),
        image("data:image/png,%89PNG"),
        image(url(b"\0\0\0\x20ftypisom\xff", "video/mp4")),
    ],
)
def test_a_part_of_another_kind_or_elsewhere_is_refused(part: object) -> None:
    assert refused(part).param == "messages[0].content[1]"


def test_media_of_an_earlier_answer_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        find_media({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]})

    assert caught.value.param == "messages[0].audio"


async def test_a_budget_that_is_too_small_names_the_part_that_counts_most() -> None:
    harness = Harness(metering=FakeMeteringClient(available=1))
    parts = [image(url(png(1, 1))), file(pdf(90, b"word " * 40_000)), image(url(png(9, 9)))]

    with pytest.raises(RemoteError, match=r"messages\[0\]\.content\[1\] \(document\) counts up to \d+ tok") as lack:
        await harness.generate({"model": "smollm2", "messages": [{"role": "user", "content": parts}]})

    assert (lack.value.reason, lack.value.param) == ("INSUFFICIENT_QUOTA", "messages[0].content[1]")
    tokens, dollars = re.findall(r"up to (\d+) tokens, \$([\d.]+)$", lack.value.message)[0]
    price = harness.metering.price_of("local/smollm2-135m-instruct").input_per_million
    assert usd_to_nano_usd(dollars) == -(-int(tokens) * price // 1_000_000)


def test_the_part_that_may_cost_most_is_that_of_the_dear_candidate() -> None:
    small, large = find_media({"messages": [{"content": [image(url(png(64, 64))), image(url(png(2000, 2000)))]}]})

    for prices, tokens in (((NanoUsd(1_000), NanoUsd(10**9)), 765), ((NanoUsd(10**9), NanoUsd(1_000)), 4_784)):
        part, counted, amount = dearest((small, large), (CLAUDE, OPENAI), prices)
        assert (part, counted) == (large, tokens)
        assert amount == tokens * 1_000


async def test_without_prices_in_the_refusal_the_part_is_named_in_tokens() -> None:
    harness = Harness(metering=FakeMeteringClient())
    harness.metering.failure = RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")

    with pytest.raises(RemoteError, match=r"messages\[0\]\.content\[0\] \(image\) counts up to \d+ tokens$"):
        await harness.generate({"model": "smollm2", "messages": [{"role": "user", "content": [image(url(png(9, 9)))]}]})
