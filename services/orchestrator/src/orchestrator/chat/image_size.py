"""Reads the width and height of an image from its first bytes."""

from typing import NamedTuple


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int


_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_JPEG_NOT_FRAMES = {0xC4, 0xC8, 0xCC}


def image_size(head: bytes) -> Size | None:
    """Return the size of a PNG, JPEG, GIF or WebP; None for another format, or when it is not in `head`."""
    size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        size = Size(_big(head[16:20]), _big(head[20:24]))
    elif head.startswith((b"GIF87a", b"GIF89a")):
        size = Size(_little(head[6:8]), _little(head[8:10]))
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg_size(head)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        size = _webp_size(head)
    return size if size is not None and min(size) > 0 else None


def _jpeg_size(head: bytes) -> Size | None:
    # Segments, not a search: the image inside an Exif segment is a thumbnail.
    position = 2
    while position + 9 <= len(head):
        if head[position] != 0xFF:
            return None
        marker = head[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            position += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _JPEG_NOT_FRAMES:
            return Size(_big(head[position + 7 : position + 9]), _big(head[position + 5 : position + 7]))
        else:
            position += 2 + max(_big(head[position + 2 : position + 4]), 2)
    return None


def _webp_size(head: bytes) -> Size | None:
    kind = head[12:16]
    if kind == b"VP8X" and len(head) >= 30:
        return Size(_little(head[24:27]) + 1, _little(head[27:30]) + 1)
    if kind == b"VP8L" and len(head) >= 25:
        bits = _little(head[21:25])
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and len(head) >= 30:
        return Size(_little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF)
    return None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
