"""The fields of a chat completion request, and what each of them can do to its cost.

One row per field of OpenAI's reference, and of the other APIs that candidates may speak. Names are exact.
"""

from enum import StrEnum
from typing import NamedTuple

from orchestrator.routing.model import Provider


class Treatment(StrEnum):
    """What happens to a field."""

    HANDLED = "handled"
    """Ours: the model, the stream, our extension."""
    PASSED = "passed"
    """Costs nothing that the bound does not cover: the upstream gets it unread."""
    PRICED = "priced"
    """Multiplies or adds to what can be written; the bound counts it."""
    BOUNDED = "bounded"
    """A name of the output limit."""
    REFUSED = "refused"
    """Changes what is called, or costs what no bound covers."""


class Field(NamedTuple):
    """A row. `providers` whose API has the field; None for all. `why` it is refused."""

    treatment: Treatment
    providers: frozenset[Provider] | None = None
    why: str = ""


OUTPUT_LIMIT_FIELDS = (
    *("max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict", "num_predict"),
    *("max_output_tokens", "max_tokens_to_sample", "max_gen_len"),
)
"""Every name of the output limit that some provider reads: one left in the body could override the limit we set."""

_MODEL = "it would change which model is called"
_CANDIDATES = "it would call a model or provider other than the route's"
_ADDRESS = "it would change where, or as whom, the upstream is called"
_PRICE = "it would change the price"
_SEARCH = "searches are charged beside the tokens"
_RUNS = "it starts work that is charged beside the tokens"
_ANSWERS = "it asks for answers that no limit counts"
_PROMPT = "it would change the prompt by text that is not in the request"
_AUDIO = "an answer that is not text has another price"
_NESTED = "its content could override any other field"
_STATE = "it refers to state that is shared by all tenants"

_REFUSED: dict[str, tuple[str, ...]] = {
    _MODEL: ("engine", "deployment_id", "lora", "lora_request", "adapter_id", "draft_model", "model_id"),
    _CANDIDATES: (
        *("models", "route", "provider", "providers", "preset", "fallbacks", "context_window_fallback_dict"),
        *("custom_llm_provider", "model_list", "router", "routing"),
    ),
    _ADDRESS: (
        *("api_base", "api_key", "api_version", "api_type", "base_url", "organization", "azure_endpoint"),
        *("azure_ad_token", "extra_headers", "headers", "extra_query", "vertex_project", "vertex_location"),
        *("vertex_credentials", "aws_region_name", "aws_access_key_id", "aws_secret_access_key", "region_name"),
    ),
    _PRICE: ("speed", "inference_geo", "betas", "performanceConfig", "mm_processor_kwargs", "media_io_kwargs"),
    _SEARCH: (
        *("web_search_options", "web_search", "search_parameters", "enable_search", "search_options", "search_mode"),
        "data_sources",
    ),
    _RUNS: (
        *("plugins", "mcp_servers", "container", "background", "code_interpreter", "tool_resources"),
        *("context_management", "guardrails", "guardrailConfig"),
    ),
    _ANSWERS: ("best_of", "n_cmpl", "candidate_count", "num_return_sequences", "use_beam_search", "num_beams"),
    _PROMPT: (*("chat_template", "transforms", "prompt", "prompt_id", "previous_response_id", "conversation"),),
    _AUDIO: ("audio", "image_config", "speech_config"),
    _NESTED: (
        *("extra_body", "options", "parameters", "generationConfig", "generation_config", "config"),
        *("additional_model_request_fields", "additionalModelRequestFields", "additional_kwargs"),
    ),
    _STATE: ("cached_content", "cachedContent", "id_slot", "slot_id", "cache_prompt", "session_id"),
}

# OpenAI's reference of chat completions, without the fields above and below.
_OPENAI = (
    *("frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "messages", "metadata"),
    *("modalities", "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "prompt_cache_retention"),
    *("reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store"),
    *("temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity"),
)

# Fields of other APIs that only shape the text within its limit.
_OTHERS: dict[str, frozenset[Provider]] = {
    "thinking": frozenset({Provider.ANTHROPIC}),
    "top_k": frozenset({Provider.ANTHROPIC, Provider.GEMINI}),
}

FIELDS: dict[str, Field] = {
    **{name: Field(Treatment.PASSED) for name in _OPENAI},
    **{name: Field(Treatment.PASSED, providers) for name, providers in _OTHERS.items()},
    **{name: Field(Treatment.HANDLED) for name in ("model", "stream", "stream_options", "argosy")},
    **{name: Field(Treatment.PRICED) for name in ("n", "prediction")},
    **{name: Field(Treatment.BOUNDED) for name in OUTPUT_LIMIT_FIELDS},
    **{name: Field(Treatment.REFUSED, None, why) for why, names in _REFUSED.items() for name in names},
}

ALLOWED_VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "service_tier": (("auto", "default"), _PRICE),
    "modalities": (("text",), _AUDIO),
}
"""Fields of which only some values are passed: every other value is refused, for the reason beside them."""

FREE_TOOLS = frozenset({"function", "custom"})
"""Types of tools that the client runs. A provider charges for those that it runs itself."""

MAX_NAME_CHARACTERS = 64


def short_name(name: str) -> str:
    """Return the name of a field as clients see it in warnings and errors."""
    return name if len(name) <= MAX_NAME_CHARACTERS else name[: MAX_NAME_CHARACTERS - 1] + "…"
