"""How the model thinks and samples: parameters that Anthropic's API does not take together."""

from typing import Any

MIN_THINKING_TOKENS = 1024
MIN_TOP_P_WITH_THINKING = 0.95
FORCED_CHOICES = frozenset({"any", "tool"})


def add_thinking(request: dict[str, Any], body: dict[str, Any], warnings: list[str]) -> None:
    """Add the thinking that the client asked for, where the request allows it."""
    thinking = body.get("thinking")
    if not isinstance(thinking, dict):
        return
    if thinking.get("type") in (None, "disabled"):
        request["thinking"] = thinking
        return
    if request.get("tool_choice", {}).get("type") in FORCED_CHOICES:
        warnings.append("This upstream does not think when a tool is forced; thinking was dropped.")
        return
    if _lacks_thinking(request["messages"]):
        warnings.append("The tool calls before have no thinking_blocks with their signatures; thinking was dropped.")
        return
    budget = thinking.get("budget_tokens")
    if isinstance(budget, int) and budget >= request["max_tokens"]:
        if request["max_tokens"] <= MIN_THINKING_TOKENS:
            warnings.append(f"Thinking needs an output limit above {MIN_THINKING_TOKENS} tokens; it was dropped.")
            return
        thinking = {**thinking, "budget_tokens": request["max_tokens"] - 1}
        warnings.append("thinking.budget_tokens was lowered below the output limit.")
    request["thinking"] = thinking


def add_sampling(request: dict[str, Any], body: dict[str, Any], warnings: list[str]) -> None:
    """Add stops and sampling, without what Anthropic refuses beside each other."""
    stops = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []
    kept = [stop for stop in stops if isinstance(stop, str) and stop.strip()]
    if len(kept) < len(stops):
        warnings.append("This upstream takes no blank stop sequences; they were dropped.")
    if kept:
        request["stop_sequences"] = kept
    sampling = {name: body[name] for name in ("temperature", "top_p", "top_k") if body.get(name) is not None}
    if _thinks(request):
        _sample_with_thinking(sampling, warnings)
    if "temperature" in sampling and "top_p" in sampling:
        del sampling["top_p"]
        warnings.append("This upstream takes temperature or top_p, not both; top_p was dropped.")
    if sampling.get("temperature", 0) > 1:
        # Anthropic's scale ends at 1, OpenAI's at 2.
        sampling["temperature"] = 1
        warnings.append("This upstream's temperature ends at 1; it was lowered to it.")
    request |= sampling


def _sample_with_thinking(sampling: dict[str, Any], warnings: list[str]) -> None:
    refused = {
        "temperature": sampling.get("temperature") not in (None, 1),
        "top_k": "top_k" in sampling,
        "top_p": not MIN_TOP_P_WITH_THINKING <= sampling.get("top_p", 1) <= 1,
    }
    for name in (name for name, is_refused in refused.items() if is_refused):
        del sampling[name]
        warnings.append(f"This upstream does not take {name} when it thinks; it was dropped.")


def _thinks(request: dict[str, Any]) -> bool:
    return request.get("thinking", {}).get("type") not in (None, "disabled")


def _lacks_thinking(turns: list[dict[str, Any]]) -> bool:
    """Tell whether the tool calls that are being answered came without the thinking that led to them.

    Anthropic checks the last turn of the assistant, and only when results of its tools follow.
    """
    if len(turns) < 2 or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    return turns[-2]["content"][0]["type"] not in {"thinking", "redacted_thinking"}
