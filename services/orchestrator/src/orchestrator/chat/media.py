"""Finds the images, sounds and documents of a request, and bounds the tokens that each can cost.

What a part holds decides, not the name of its wrapping: a PDF in an `image_url` is a document.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from math import ceil
from typing import NamedTuple, Never

from chassis.errors import InvalidRequest
from values.money import TOKENS_PER_PRICE, NanoUsd

from orchestrator.chat.image_size import Size, image_size
from orchestrator.chat.pdf import PdfBound, Unbounded, bound_pdf
from orchestrator.chat.tariff import tariff_of
from orchestrator.routing.model import RouteCandidate

TEXT_PARTS = frozenset({"text", "refusal", "thinking", "redacted_thinking", "input_text", "output_text"})
_MEDIA_KEYS = frozenset({"image_url", "input_audio", "file", "video_url", "audio_url", "source", "inline_data"})
_MEDIA_OF_MESSAGE = ("audio", "images", "videos")

# Base64 whose first bytes hold the size of nearly every image.
HEAD_CHARACTERS = 350_000
_IMAGE_MARKS = (b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\xff\xd8\xff")

# The slowest encoding of each format, in bytes per second: sound of so many bytes takes no longer.
AUDIO_BYTES_PER_SECOND = {"wav": 1_600, "mp3": 1_000}
_OTHER_SOUNDS = (b"OggS", b"fLaC", b"\x1aE\xdf\xa3")


_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


class MediaKind(StrEnum):
    """What is inside a part."""

    IMAGE = "image"
    AUDIO = "audio"
    DOCUMENT = "document"


class Media(NamedTuple):
    """A part that is not text, and what decides its cost."""

    path: str
    kind: MediaKind
    inlined_bytes: int
    """Of the body; they are not text."""
    size: Size | None = None
    low_detail: bool = False
    seconds: int = 0
    document: PdfBound = PdfBound(0, 0)


def media_tokens(media: Media, candidate: RouteCandidate) -> int:
    """Return the most tokens that a candidate can count for it."""
    tariff = tariff_of(candidate.provider, candidate.model)
    if media.kind is MediaKind.IMAGE:
        return tariff.image(media.size, media.low_detail)
    if media.kind is MediaKind.AUDIO:
        return media.seconds * tariff.audio_tokens_per_second
    return media.document.pages * tariff.page + media.document.text_bytes


def find_media(document: Mapping[str, object]) -> tuple[Media, ...]:
    """Return all parts that are not text. Raises `InvalidRequest` for one whose cost nothing bounds."""
    return tuple(_measure(path, part) for path, part in _parts(document))


def _parts(document: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    messages = document.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        for name in _MEDIA_OF_MESSAGE:
            if message.get(name):
                _refuse(f"messages[{index}].{name}", "it refers to media that are not in the request")
        content = message.get("content")
        for position, part in enumerate(content if isinstance(content, list) else ()):
            path = f"messages[{index}].content[{position}]"
            if not isinstance(part, dict):
                raise InvalidRequest(f"{path} is not an object", param=path)
            kind = part.get("type")
            # A kind may be any JSON value: of those only strings can be looked up.
            if not (isinstance(kind, str) and kind in TEXT_PARTS):
                yield path, part
            elif not _MEDIA_KEYS.isdisjoint(part):
                _refuse(path, f"it is of type {kind} and holds media")


def _measure(path: str, part: Mapping[str, object]) -> Media:
    kind = part.get("type")
    if kind == "image_url":
        return _image_part(path, part.get("image_url"))
    if kind == "input_audio":
        return _audio_part(path, part.get("input_audio"))
    if kind == "file":
        return _file_part(path, part.get("file"))
    raise _unbounded(path, "its type is none of text, image_url, input_audio, file")


def _image_part(path: str, image: object) -> Media:
    url = image.get("url") if isinstance(image, dict) else image
    low = isinstance(image, dict) and image.get("detail") == "low"
    if not isinstance(url, str):
        raise InvalidRequest(f"{path}.image_url has no URL", param=path)
    if url[:5].lower() == "data:":
        return _inlined(path, url, low=low)
    if not url.lower().startswith(("https://", "http://")) or url.partition("?")[0].lower().endswith(".pdf"):
        _refuse(path, "it is a link to something that is not an image")
    return Media(path, MediaKind.IMAGE, 0, None, low)


def _audio_part(path: str, audio: object) -> Media:
    data = audio.get("data") if isinstance(audio, dict) else None
    if not isinstance(audio, dict) or not isinstance(data, str):
        raise InvalidRequest(f"{path}.input_audio has no data", param=path)
    speed = AUDIO_BYTES_PER_SECOND.get(str(audio.get("format")))
    head = _decode(path, data[:64])
    if speed is None or head.startswith(_OTHER_SOUNDS):
        _refuse(path, f"only sound in {' or '.join(AUDIO_BYTES_PER_SECOND)} has a length that its bytes bound")
    # The slower of the two, whatever the format says that it is.
    seconds = ceil(len(data) * 3 / 4 / min(AUDIO_BYTES_PER_SECOND.values()))
    return Media(path, MediaKind.AUDIO, len(data), seconds=seconds)


def _file_part(path: str, file: object) -> Media:
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str):
        _refuse(path, "the file is not in the request")
    if data[:5].lower() == "data:":
        return _inlined(path, data, low=False)
    if "://" in data[:64]:
        _refuse(path, "it is a link")
    return _content(path, "", data)


def _inlined(path: str, url: str, *, low: bool) -> Media:
    """Measure a data URL by what is in it."""
    prefix, comma, data = url.partition(",")
    kind, *options = prefix[5:].lower().split(";")
    if not comma or "base64" not in options:
        _refuse(path, "its data URL is not in base64")
    return _content(path, kind.strip(), data, low=low)


def _content(path: str, media_type: str, data: str, *, low: bool = False) -> Media:
    head = _decode(path, data[:HEAD_CHARACTERS])
    declared_image = media_type.startswith("image/") and media_type != "image/svg+xml"
    if b"%PDF" not in head and (declared_image or head.startswith(_IMAGE_MARKS)):
        return Media(path, MediaKind.IMAGE, len(data), image_size(head), low)
    decoded = head if len(data) <= HEAD_CHARACTERS else _decode(path, data)
    return Media(path, MediaKind.DOCUMENT, len(data), document=_document(path, media_type, decoded))


def _document(path: str, media_type: str, data: bytes) -> PdfBound:
    if b"%PDF" in data:
        try:
            return bound_pdf(data)
        except Unbounded as error:
            _refuse(path, str(error))
    if media_type == "application/pdf" or not _is_text(data):
        _refuse(path, "it is neither text nor a PDF nor an image")
    return PdfBound(0, len(data))


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode(path: str, data: str) -> bytes:
    # As leniently as any provider: both alphabets, other characters skipped, with or without padding.
    try:
        text = _NOT_BASE64.sub(b"", data.encode("ascii", "ignore").translate(_URL_SAFE))
        return base64.b64decode(text[: len(text) - (len(text) % 4 == 1)] + b"===")
    except binascii.Error as error:
        raise InvalidRequest(f"{path} is not base64", param=path) from error


def dearest(
    media: Sequence[Media], candidates: Sequence[RouteCandidate], input_prices: Sequence[NanoUsd]
) -> tuple[Media, int, NanoUsd]:
    """Return the part that may cost most, its tokens and their cost; `input_prices` are per million, by candidate."""
    amount, tokens, index = max(
        (-(-tokens * price // TOKENS_PER_PRICE), tokens, -index)
        for index, one in enumerate(media)
        for candidate, price in zip(candidates, input_prices, strict=True)
        for tokens in (media_tokens(one, candidate),)
    )
    return media[-index], tokens, NanoUsd(amount)


def _refuse(path: str, why: str) -> Never:
    raise _unbounded(path, why)


def _unbounded(path: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path} has no bound on its cost, which could be that of the model's whole context: {why}", param=path
    )
