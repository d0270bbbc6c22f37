"""From inference events to OpenAI's chunks: the gateway's own chunks around those of the provider."""

from typing import Any

import orjson
from chassis.errors import ArgosyError
from chassis.http import openai_error
from values.money import nano_usd_to_usd
from values.usage import TokenUsage, UsageSource

from gateway.inference.model import Finished, Started, UpstreamInvalidResponse
from gateway.web.sse import encode_events

DONE = b"data: [DONE]\n\n"


class SseEncoder:
    """Encodes what the gateway adds to a stream: the sources first, usage and cost last.

    Its chunks have the id, the time and the model of the provider's: clients take a stream with two ids for two.
    """

    def __init__(self, request_id: str, model: str, created: int, *, wants_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._created = created
        self._wants_usage = wants_usage
        self._first_payload = b""

    def sources(self, started: Started | None, first_payload: bytes = b"") -> bytes:
        """Encode the sources and warnings; empty when there are none. `first_payload` is the provider's first."""
        self._first_payload = first_payload
        if started is None or not (started.sources or started.warnings):
            return b""
        # The provider's first chunk says the role.
        chunk = self._chunk([_choice({} if first_payload else {"role": "assistant", "content": ""})])
        chunk["argosy"] = {"request_id": self._request_id, **started_fields(started)}
        return encode_events([orjson.dumps(chunk)])

    def end(self, finished: Finished) -> bytes:
        """Encode the last chunk, with the cost, and the end of the stream. Only who asked for usage gets it there."""
        provider = _parse_chunk(finished.usage_payload) or {}
        usage = provider.pop("usage", None) or usage_fields(finished.usage)
        argosy = {"request_id": self._request_id, **bill_fields(finished)}
        if self._wants_usage:
            chunk = {**provider, **self._chunk([]), "usage": usage, "argosy": argosy}
        else:
            # Such a client may read choices[0] of every chunk, and may add up every usage.
            chunk = {**provider, **self._chunk([_choice({})]), "argosy": {**argosy, "usage": usage}}
        return encode_events([orjson.dumps(chunk)]) + DONE

    def error(self, error: ArgosyError) -> bytes:
        """Encode an error. No [DONE] follows: the response is incomplete."""
        return encode_events([orjson.dumps(openai_error(error))])

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        first = _parse_chunk(self._first_payload) or {}
        return {
            "id": first.get("id") or f"chatcmpl-{self._request_id.removeprefix('req_')}",
            "object": "chat.completion.chunk",
            "created": first.get("created") or self._created,
            "model": first.get("model") or self._model,
            "choices": choices,
        }


def bill_fields(finished: Finished) -> dict[str, Any]:
    """The fields of `argosy` that are known at the end."""
    fields: dict[str, Any] = {"cost_usd": nano_usd_to_usd(finished.cost)}
    if finished.usage.source is UsageSource.COUNTED:
        fields["usage_source"] = "counted"
    if finished.warnings:
        fields["warnings"] = list(finished.warnings)
    return fields


def started_fields(started: Started | None) -> dict[str, Any]:
    """The fields of `argosy` that are known before the first byte."""
    if started is None:
        return {"sources": []}
    fields: dict[str, Any] = {"sources": source_fields(started)}
    if started.warnings:
        fields["warnings"] = list(started.warnings)
    if started.cache is not None:
        fields["cache"] = {"status": started.cache, "age": started.cache_age_seconds}
    return fields


def source_fields(started: Started) -> list[dict[str, Any]]:
    """The sources as the client sees them."""
    return [
        {
            "number": source.number,
            "file_id": source.file_id,
            "filename": source.filename,
            "page": source.page or None,
            "text": source.text,
            "score": source.score,
        }
        for source in started.sources
    ]


def usage_fields(usage: TokenUsage) -> dict[str, int] | None:
    """Usage in OpenAI's shape; None when it is unknown."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def with_counted_usage(body: bytes, usage: TokenUsage) -> bytes:
    """Put the counted usage into a body whose provider reported none; all others stay as they are."""
    counted = usage_fields(usage) if usage.source is UsageSource.COUNTED else None
    completion = _parse_chunk(body) if counted is not None else None
    if counted is None or completion is None or _has_usage(completion):
        return body
    return orjson.dumps({**completion, "usage": counted})


def add_argosy_field(body: bytes, fields: dict[str, Any]) -> bytes:
    """Add `argosy` to a JSON object without decoding it. Raises UpstreamInvalidResponse when it is not an object."""
    trimmed = body.strip()
    if not (trimmed.startswith(b"{") and trimmed.endswith(b"}")):
        raise UpstreamInvalidResponse("The model's response is not a JSON object.")
    opened = trimmed[:-1].rstrip()
    name = b'"argosy":' if opened == b"{" else b',"argosy":'
    return b"".join((opened, name, orjson.dumps(fields), b"}"))


def _parse_chunk(payload: bytes) -> dict[str, Any] | None:
    try:
        chunk = orjson.loads(payload) if payload else None
    except orjson.JSONDecodeError:
        return None
    return chunk if isinstance(chunk, dict) else None


def _has_usage(completion: dict[str, Any]) -> bool:
    """Tell whether a completion tells what it used; some providers and translations write zeros instead of nothing."""
    usage = completion.get("usage")
    return isinstance(usage, dict) and bool(usage.get("prompt_tokens") or usage.get("completion_tokens"))


def _choice(delta: dict[str, str]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None}
