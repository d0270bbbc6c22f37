"""Content of messages: text that is not blank, images and documents whose kind Anthropic takes."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from inference_worker.providers.model import UpstreamRejected

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
ALIASES = {"image/jpg": "image/jpeg"}


def to_blocks(content: object, *, only_text: bool = False) -> list[dict[str, Any]]:
    """Translate a content. Raises `UpstreamRejected`, with fallback, for what the API does not take."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return list(_blocks(content, only_text=only_text))


def _blocks(parts: object, *, only_text: bool) -> Iterator[dict[str, Any]]:
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, str):
            part = {"type": "text", "text": part}  # noqa: PLW2901 - some clients write parts as strings
        if not isinstance(part, dict):
            continue
        block = _block(part)
        if block["type"] == "text" and not block["text"].strip():
            continue
        if only_text and block["type"] != "text":
            raise _refusal("takes images and files in messages of the user and results of tools only")
        if "cache_control" in part:
            block["cache_control"] = part["cache_control"]
        yield block


def _block(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in {"text", "refusal", "input_text", "output_text"}:
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    if kind == "image_url":
        image = part.get("image_url")
        source = _source(image.get("url") if isinstance(image, dict) else image)
        if source.get("media_type", "image/png") not in IMAGE_TYPES:
            raise _refusal(f"does not take images of the type {source['media_type']}")
        return {"type": "image", "source": source}
    if kind == "file":
        return _document(part.get("file") or {})
    raise _refusal(f"does not support parts of type {kind}")


def _document(file: dict[str, Any]) -> dict[str, Any]:
    if file.get("file_id") and not file.get("file_data"):
        raise _refusal("cannot read files by an id of another provider; send file_data")
    source = _source(file.get("file_data"))
    media_type = source.get("media_type", "application/pdf")
    if media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _decode(source["data"])}
    elif media_type in IMAGE_TYPES:
        return {"type": "image", "source": source}
    elif media_type != "application/pdf":
        raise _refusal(f"does not take files of the type {media_type}")
    document = {"type": "document", "source": source}
    if file.get("filename"):
        document["title"] = file["filename"]
    return document


def _source(url: object) -> dict[str, Any]:
    if isinstance(url, str) and url.startswith("https://"):
        return {"type": "url", "url": url}
    prefix, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or prefix[:5].lower() != "data:" or not prefix.lower().endswith(";base64"):
        raise _refusal("takes an image or a file as an https or a base64 data URL only")
    media_type = prefix[5:].partition(";")[0].strip().lower()
    return {"type": "base64", "media_type": ALIASES.get(media_type, media_type), "data": data}


def _decode(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _refusal("takes text files in UTF-8 only") from None


def _refusal(why: str) -> UpstreamRejected:
    return UpstreamRejected(f"this upstream {why}", fallback=True)
