"""Translates OpenAI's chat completion requests into requests of Anthropic's Messages API.

What Anthropic documents as refused is put in the form that it takes where that loses nothing, left out with a warning
where it does, and left to the next candidate where the request would become another one.
"""

from typing import Any

from inference_worker.providers.anthropic.messages import to_turns
from inference_worker.providers.anthropic.sampling import add_sampling, add_thinking
from inference_worker.providers.anthropic.tools import add_tools
from inference_worker.providers.model import UpstreamRejected

# Anthropic requires a limit; OpenAI's clients often omit it.
DEFAULT_MAX_TOKENS = 4096

# What this translation cannot keep. The next candidate may support it; dropping it would change the request.
UNSUPPORTED_PARAMS = ("logprobs", "top_logprobs", "audio", "logit_bias", "prediction", "functions")

# Hints: an answer without them is an answer to the same request.
DROPPED_PARAMS = ("seed", "frequency_penalty", "presence_penalty", "reasoning_effort", "verbosity")


def to_messages_request(body: dict[str, Any], warnings: list[str] | None = None) -> dict[str, Any]:
    """Translate a body; what is left out of it becomes a sentence in `warnings`.

    Raises `UpstreamRejected`, with fallback, for what Anthropic's API does not support.
    """
    warnings = [] if warnings is None else warnings
    _check_supported(body)
    request: dict[str, Any] = {name: body[name] for name in ("model", "stream") if body.get(name) is not None}
    request["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    system, request["messages"] = to_turns(body.get("messages"))
    if system:
        request["system"] = system
    if body.get("user"):
        request["metadata"] = {"user_id": body["user"]}
    add_tools(request, body, warnings)
    add_thinking(request, body, warnings)
    add_sampling(request, body, warnings)
    request |= _output_config(body.get("response_format"))
    warnings += [f"This upstream does not support {name}; it was dropped." for name in DROPPED_PARAMS if body.get(name)]
    return request


def _check_supported(body: dict[str, Any]) -> None:
    unsupported = [name for name in UNSUPPORTED_PARAMS if body.get(name)]
    if body.get("n") not in {None, 1}:
        unsupported.append("n")
    if unsupported:
        raise UpstreamRejected(f"this upstream does not support: {', '.join(unsupported)}", fallback=True)


def _output_config(response_format: object) -> dict[str, Any]:
    if not isinstance(response_format, dict) or response_format.get("type") == "text":
        return {}
    schema = response_format.get("json_schema")
    if response_format.get("type") != "json_schema" or not isinstance(schema, dict):
        raise UpstreamRejected(
            f"this upstream does not support the response format {response_format.get('type')}", fallback=True
        )
    return {"output_config": {"format": {"type": "json_schema", "schema": schema.get("schema") or {}}}}
