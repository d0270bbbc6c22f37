"""Decides which candidates can take a request, before any of them is called."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from orchestrator.routing.model import RouteCandidate

BYTES_PER_TOKEN = 4
"""Of usual text; a text of fewer bytes per token is longer than the estimate, and its upstream says so."""


class RequestFacts(NamedTuple):
    """What routing reads of a request."""

    tenant_id: str = ""
    plan: str = ""
    country: str = ""
    tags: Mapping[str, str] = {}
    tools: bool = False
    vision: bool = False
    audio: bool = False
    json_schema: bool = False
    json_answer: bool = False
    """The answer is to be JSON, with a schema or without."""
    input_bytes: int = 0
    """Of text. There are no more tokens than bytes."""
    output_limit: int | None = None
    last_text: str = ""
    """The text of the last message; only read for right-sizing."""
    stream: bool = False


class PassedOver(StrEnum):
    """Why a candidate cannot take a request."""

    PLAN = "it is for other plans"
    COUNTRY = "it is for other countries"
    TAGS = "it is for requests with other tags"
    TOOLS = "it takes no tools"
    VISION = "it reads no images"
    AUDIO = "it reads no sound"
    JSON_SCHEMA = "it follows no JSON schema"
    CONTEXT = "the input is longer than its context"
    OUTPUT = "it writes fewer tokens than the request asks for"


def why_passed_over(candidate: RouteCandidate, facts: RequestFacts) -> PassedOver | None:  # noqa: PLR0911 - a table
    """Return why the candidate cannot take the request, or None. What is not known of it is assumed.

    Its context is compared with an estimate: only a request that certainly does not fit is kept from it. One that may
    not fit is sent, and its refusal has a fallback of its own.
    """
    conditions, can = candidate.conditions, candidate.capabilities
    if conditions.plans and facts.plan not in conditions.plans:
        return PassedOver.PLAN
    if conditions.countries and facts.country not in conditions.countries:
        return PassedOver.COUNTRY
    for name, values in conditions.tags:
        if facts.tags.get(name) not in values:
            return PassedOver.TAGS
    if facts.tools and can.tools is False:
        return PassedOver.TOOLS
    if facts.vision and can.vision is False:
        return PassedOver.VISION
    if facts.audio and can.audio is False:
        return PassedOver.AUDIO
    if facts.json_schema and can.json_schema is False:
        return PassedOver.JSON_SCHEMA
    if can.context_tokens is not None and facts.input_bytes > can.context_tokens * BYTES_PER_TOKEN:
        return PassedOver.CONTEXT
    if facts.output_limit is not None and facts.output_limit > candidate.max_output_tokens:
        return PassedOver.OUTPUT
    return None


def surely_fits(candidate: RouteCandidate, facts: RequestFacts) -> bool:
    """Whether the upper bound of the input fits into the candidate's context, or the context is not known."""
    context = candidate.capabilities.context_tokens
    return context is None or facts.input_bytes <= context
