"""Mail, as it is stored in .eml files: who wrote what to whom, and what the reader sees of it."""

import email
import email.policy
import io
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart
from typing import BinaryIO

from retrieval.parsing import html
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile, WarningCode
from retrieval.parsing.text_encoding import decode, find_encoding

ENCRYPTED_TYPES = {"application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted"}
SHOWN_HEADERS = ("Subject", "From", "To", "Cc", "Date")


def read(document: BinaryIO, _: Limits) -> Iterator[tuple[int, str] | FileWarning]:
    """The headers that a mail program shows, then the body; of alternatives the richest that is text.

    Mails that are attached are read after it, as a mail program shows them; other attachments are named and left out.
    """
    message = email.message_from_binary_file(document, policy=email.policy.default)
    yield from _mail(message)


def _mail(message: EmailMessage) -> Iterator[tuple[int, str] | FileWarning]:
    if message.get_content_type() in ENCRYPTED_TYPES and message.get_param("smime-type") != "signed-data":
        raise UnindexableFile(IngestionErrorCode.ENCRYPTED_FILE, "the mail is encrypted")
    headers = ((name, _header(message, name)) for name in SHOWN_HEADERS)
    yield 0, "".join(f"{name}: {value}\n" for name, value in headers if value) + "\n"
    body = message.get_body(preferencelist=("html", "plain"))
    if body is not None:
        yield from _part(body)
    for part in message.iter_attachments() if message.is_multipart() else ():
        if part.get_content_type() == "message/rfc822":
            yield from _mail(part.get_content())
        elif part.get_content_maintype() == "text" and not part.get_filename():
            # Text between pictures, as some programs cut their mails.
            yield from _part(part)
        elif part.get_content_disposition() == "inline" and part.get_content_maintype() == "image":
            yield FileWarning(WarningCode.PICTURES, "text in pictures is not read")
        else:
            yield 0, f"Attachment: {part.get_filename() or part.get_content_type()}\n"
            yield FileWarning(WarningCode.EMBEDDED_FILES, "attachments of the mail are not read")


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = str(message[name] or "")
    except Exception:  # noqa: BLE001 - the library's parser of headers raises anything for a malformed one
        value = next((str(raw) for key, raw in message.raw_items() if key.lower() == name.lower()), "")
    return " ".join(value.split())


def _part(part: MIMEPart) -> Iterator[tuple[int, str] | FileWarning]:
    """The part's text in the charset that it declares; the declaration of a page inside it comes second."""
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return
    charset = part.get_content_charset() or ""
    if part.get_content_subtype() == "html":
        yield from html.texts(content, charset)
        return
    document = io.BytesIO(content)
    encoding = find_encoding(document, charset)
    yield from encoding.warnings
    yield 0, "".join(decode(document, encoding.codec)) + "\n\n"
