"""From inference events to OpenAI's chunks: the gateway's own chunks around those of the provider."""

from typing import Any

import orjson
from chassis.errors import ArgosyError
from chassis.http import openai_error
from values.money import nano_usd_to_usd
from values.usage import TokenUsage

from gateway.inference.model import Finished, Started, UpstreamInvalidResponse
from gateway.web.sse import encode_events

DONE = b"data: [DONE]\n\n"


class SseEncoder:
    """Encodes what the gateway adds to a stream: the sources first, usage and cost last."""

    def __init__(self, request_id: str, model: str, created: int, *, wants_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._created = created
        self._wants_usage = wants_usage

    def sources(self, started: Started | None) -> bytes:
        """Encode the sources and warnings; empty when there are none."""
        if started is None or not (started.sources or started.warnings):
            return b""
        chunk = self._chunk([_choice({"role": "assistant", "content": ""})])
        chunk["argosy"] = {"request_id": self._request_id, **started_fields(started)}
        return encode_events([orjson.dumps(chunk)])

    def end(self, finished: Finished) -> bytes:
        """Encode the usage chunk with the cost, and the end of the stream."""
        chunk = _parse_chunk(finished.usage_payload) or self._chunk([])
        # A client that did not ask for usage may read choices[0] of every chunk.
        chunk["choices"] = [] if self._wants_usage else [_choice({})]
        if not chunk.get("usage"):
            chunk["usage"] = usage_fields(finished.usage)
        chunk["argosy"] = {"request_id": self._request_id, "cost_usd": nano_usd_to_usd(finished.cost)}
        return encode_events([orjson.dumps(chunk)]) + DONE

    def error(self, error: ArgosyError) -> bytes:
        """Encode an error. No [DONE] follows: the response is incomplete."""
        return encode_events([orjson.dumps(openai_error(error))])

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._request_id.removeprefix('req_')}",
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def started_fields(started: Started | None) -> dict[str, Any]:
    """The fields of `argosy` that are known before the first byte."""
    if started is None:
        return {"sources": []}
    fields: dict[str, Any] = {"sources": source_fields(started)}
    if started.warnings:
        fields["warnings"] = list(started.warnings)
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


def _choice(delta: dict[str, str]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None}
