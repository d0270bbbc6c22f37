"""The encoding of a text: what its bytes prove, what it declares, or what is detected with confidence."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile, WarningCode

PIECE_BYTES = 64 * 1024
SAMPLE_BYTES = 32 * 1024
# One invalid sequence in this many characters is damage, more is another encoding.
MIN_CHARACTERS_PER_ERROR = 200
MIN_CHARACTERS_PER_ERROR_AS_DECLARED = 20
REPLACEMENT = "\ufffd"
# Longer marks first: that of UTF-32 begins with that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# ISO-2022-JP has 7 bits, so it is valid UTF-8: only its escapes tell.
_ISO_2022_JP = re.compile(rb"\x1b(?:\$[B@]|\([IJ])")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_HIGH = re.compile(rb"[\x80-\xff]")

# Labels whose meaning in the Encoding Standard differs from that of Python, or that Python does not know.
WHATWG = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "l1": "cp1252",
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "x-cp1252": "cp1252",
    "x-user-defined": "cp1252",
    "iso-8859-9": "cp1254",
    "latin5": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "dos-874": "cp874",
    "x-cp1250": "cp1250",
    "x-cp1251": "cp1251",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "ms_kanji": "cp932",
    "windows-31j": "cp932",
    "ms932": "cp932",
    "x-euc-jp": "euc_jp",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "chinese": "gb18030",
    "big5": "big5hkscs",
    "x-x-big5": "big5hkscs",
    "cn-big5": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ksc5601": "cp949",
    "korean": "cp949",
    "windows-949": "cp949",
    "koi8": "koi8_r",
    "koi": "koi8_r",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "unicode-1-1-utf-8": "utf-8",
    "x-unicode20utf8": "utf-8",
    # A page that was read as far as its declaration is not in UTF-16.
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
    "unicode": "utf-8",
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """The name of a codec, and what a reader of the file's status should know."""

    codec: str
    warnings: tuple[FileWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fit:
    """How well a text is decoded: invalid sequences, characters that are not ASCII, and all characters.

    ASCII is valid in all encodings, so it is no evidence for one of them.
    """

    errors: int
    wide: int
    characters: int

    @property
    def is_evident(self) -> bool:
        return self.errors * MIN_CHARACTERS_PER_ERROR <= self.wide

    @property
    def is_damaged_a_little(self) -> bool:
        return self.errors * MIN_CHARACTERS_PER_ERROR <= self.characters

    @property
    def is_likely_as_declared(self) -> bool:
        return self.errors * MIN_CHARACTERS_PER_ERROR_AS_DECLARED <= self.wide or self.is_damaged_a_little


def find_encoding(document: BinaryIO, declared: str = "") -> Encoding:
    """By the mark of byte order, else as declared, else UTF-8 if that fits, else by detection.

    Reads all of the document before a word of it is used, so that no half of a file is embedded. `declared` is a label
    of the Encoding Standard. Raises UnindexableFile when no encoding fits with confidence.
    """
    head = document.read(SAMPLE_BYTES)
    document.seek(0)
    marked = next((codec for mark, codec in BYTE_ORDER_MARKS if head.startswith(mark)), "") or unmarked_utf_16(head)
    proven = marked or ("iso2022_jp" if _ISO_2022_JP.search(head) else "")
    for codec in (proven, to_codec(declared)):
        if codec and (fit := _measure(document, codec)).is_likely_as_declared:
            return Encoding(codec, _damage(fit.errors))
    utf_8 = _measure(document, "utf-8")
    if utf_8.is_evident:
        return Encoding("utf-8", _damage(utf_8.errors))
    detected = _detect(document)
    if detected is None and utf_8.is_damaged_a_little:
        return Encoding("utf-8", _damage(utf_8.errors))
    if detected is None:
        raise UnindexableFile(
            IngestionErrorCode.UNKNOWN_ENCODING, "the encoding of the text is not clear; save the file as UTF-8"
        )
    return detected


def to_codec(label: str) -> str:
    """Python's codec of a label, or nothing for one that is not known."""
    name = label.strip().lower()
    name = WHATWG.get(name, name)
    try:
        # Some codecs, such as "base64", do not make text.
        "".encode(name)
    except (LookupError, ValueError, UnicodeError):
        return ""
    return name


def decode(document: BinaryIO, codec: str) -> Iterator[str]:
    """The text in pieces; bytes that are not valid are left out."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    while piece := document.read(PIECE_BYTES):
        yield decoder.decode(piece).replace(REPLACEMENT, "")
    yield decoder.decode(b"", final=True).replace(REPLACEMENT, "")


def unmarked_utf_16(head: bytes) -> str:
    """UTF-16 of which most characters are Latin: every other byte is zero."""
    if len(head) < 4 or b"\0" not in head:
        return ""
    even, odd = head[0::2], head[1::2]
    zeros_even, zeros_odd = even.count(0) / len(even), odd.count(0) / len(odd)
    if zeros_odd > 0.5 and zeros_even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if zeros_even > 0.5 and zeros_odd < 0.05 else ""


def _measure(document: BinaryIO, codec: str) -> _Fit:
    decoder = codecs.getincrementaldecoder(codec)("replace")
    errors = wide = characters = 0
    while True:
        piece = document.read(PIECE_BYTES)
        text = decoder.decode(piece, final=not piece)
        errors += text.count(REPLACEMENT)
        wide += sum(map(len, _NOT_ASCII.findall(text)))
        characters += len(text)
        if not piece:
            break
    document.seek(0)
    return _Fit(errors, wide, characters)


def _damage(errors: int) -> tuple[FileWarning, ...]:
    if not errors:
        return ()
    return (FileWarning(WarningCode.UNREADABLE_BYTES, f"{errors} invalid sequences of bytes are left out"),)


def _detect(document: BinaryIO) -> Encoding | None:
    from retrieval.parsing.text_detection import detect  # noqa: PLC0415 - most files need no detector

    codec = detect(_sample(document))
    fit = _measure(document, codec) if codec else None
    if fit is None or not fit.is_evident:
        return None
    found = FileWarning(WarningCode.DETECTED_ENCODING, f"the file does not say its encoding; it was read as {codec}")
    return Encoding(codec, (found, *_damage(fit.errors)))


def _sample(document: BinaryIO) -> bytes:
    """Lines that are not ASCII, from anywhere in the document."""
    sample = bytearray()
    for line in iter(lambda: document.readline(SAMPLE_BYTES), b""):
        if _HIGH.search(line):
            sample += line
        if len(sample) >= SAMPLE_BYTES:
            break
    document.seek(0)
    return bytes(sample)
