"""Bodies that are not JSON: a proxy's HTML page, or a line of text."""

import html
import re

from inference_worker.providers.status_errors.model import ErrorFields

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_HEADING = re.compile(r"<h1[^>]*>(.*?)</h1>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
MAX_TEXT_CHARACTERS = 4096


def read(body: bytes) -> ErrorFields:
    """Return a page's title, or the text."""
    text = body[:MAX_TEXT_CHARACTERS].decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return ErrorFields(text)
    found = _TITLE.search(text) or _HEADING.search(text)
    return ErrorFields(html.unescape(_TAG.sub("", found.group(1))).strip() if found else "")
