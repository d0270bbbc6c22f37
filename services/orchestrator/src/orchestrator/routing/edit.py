"""Checks a route that an operator writes before it is stored."""

import re
from collections.abc import Sequence

from chassis.errors import InvalidRequest
from values.limits import MAX_MODEL_NAME_CHARACTERS

from orchestrator.routing.model import ALL_TENANTS, Provider, RouteCandidate, RouteEntry, Task, UnknownFields

LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""The body fields in which upstreams take the output limit; the first is the default."""

DEFAULT_OUTPUT_TOKENS = 4096
MAX_OUTPUT_TOKENS = 10_000_000
"""Far above what any model writes: a larger number is a typing error."""

_NAME = re.compile(r"[^\x00-\x20\x7f]+")
_TENANT = re.compile(r"ten_[0-9A-Za-z]{1,64}")


def make_route_entry(
    model: str,
    candidates: Sequence[str],
    *,
    tenant_id: str = ALL_TENANTS,
    task: Task = Task.CHAT,
    max_output_tokens: int | None = None,
    limit_field: str | None = None,
    unknown_fields: UnknownFields | None = None,
    provider: Provider | None = None,
) -> RouteEntry:
    """Make a route of candidates written as `upstream/model`. Raises `InvalidRequest`."""
    if task is not Task.CHAT and (max_output_tokens is not None or limit_field is not None):
        raise InvalidRequest(f"The task {task} writes no tokens: it has no limit on them.", param="max_output_tokens")
    if task is not Task.CHAT and (unknown_fields is not None or provider is not None):
        raise InvalidRequest(f"The task {task} has no fields to pass and no media.", param="unknown_fields")
    if task is Task.CHAT:
        limit = DEFAULT_OUTPUT_TOKENS if max_output_tokens is None else max_output_tokens
        if not 1 <= limit <= MAX_OUTPUT_TOKENS:
            raise InvalidRequest(
                f"The most output tokens are a number from 1 to {MAX_OUTPUT_TOKENS}, not {limit}.",
                param="max_output_tokens",
            )
    else:
        limit = 0
    if not candidates:
        raise InvalidRequest("A route needs a candidate: upstream/model.", param="candidates")
    return RouteEntry(
        tenant_id=check_tenant(tenant_id),
        model=check_model_name(model),
        task=task,
        candidates=tuple(
            RouteCandidate(*parse_candidate(text), limit, limit_field or LIMIT_FIELDS[0], unknown_fields, provider)
            for text in candidates
        ),
    )


def check_model_name(model: str) -> str:
    """Return a public model name. Raises `InvalidRequest` for a name that no request could have."""
    if len(model) > MAX_MODEL_NAME_CHARACTERS or _NAME.fullmatch(model) is None:
        raise InvalidRequest(
            f"{model!r} cannot be a model's name: 1 to {MAX_MODEL_NAME_CHARACTERS} characters, none of them a space.",
            param="model",
        )
    return model


def check_tenant(tenant_id: str) -> str:
    """Return `ALL_TENANTS` or a tenant's id. Raises `InvalidRequest` for a malformed id."""
    if tenant_id != ALL_TENANTS and _TENANT.fullmatch(tenant_id) is None:
        raise InvalidRequest(
            f"{tenant_id!r} is no tenant: an id begins with ten_ (GET /admin/v1/tenants lists them), "
            f"and {ALL_TENANTS} is for all tenants.",
            param="tenant_id",
        )
    return tenant_id


def parse_candidate(text: str) -> tuple[str, str]:
    """Return upstream and model of `upstream/model`. Raises `InvalidRequest`."""
    upstream, _, model = text.partition("/")
    # The text is the price key too, and the price book takes no longer one.
    if not (upstream and model) or len(text) > MAX_MODEL_NAME_CHARACTERS or _NAME.fullmatch(text) is None:
        raise InvalidRequest(
            f"{text!r} is no candidate: it is the name of an upstream and that of its model, as in openai/gpt-5-mini.",
            param="candidates",
        )
    return upstream, model
