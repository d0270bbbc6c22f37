"""A route as an operator writes it: checked before anything is stored."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import InvalidRequest

from orchestrator.domain.routes import EVERYBODY, RouteCandidate, Task

LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""The fields of a body in which providers take the limit on output; the first is the usual one."""

DEFAULT_OUTPUT_TOKENS = 4096
MOST_OUTPUT_TOKENS = 10_000_000
"""Far above what any model writes: what is beyond it is a slip of the hand."""

LONGEST_NAME = 256
"""What the public API takes as a model, and the price book as a price key."""

_WORD = re.compile(r"[^\x00-\x20\x7f]+")
_TENANT = re.compile(r"ten_[0-9A-Za-z]{1,64}")


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A public model name of one tenant, or of `EVERYBODY`, and its candidates in the order to try them."""

    tenant_id: str
    model: str
    task: Task
    candidates: tuple[RouteCandidate, ...]


def route_entry(
    model: str,
    candidates: Sequence[str],
    *,
    tenant_id: str = EVERYBODY,
    task: Task = Task.CHAT,
    max_output_tokens: int | None = None,
    limit_field: str | None = None,
) -> RouteEntry:
    """Make a route of candidates written as `upstream/model`. Raises `InvalidRequest`."""
    if task is Task.EMBEDDING and (max_output_tokens is not None or limit_field is not None):
        raise InvalidRequest("An embedding writes no tokens: it has no limit on them.", param="max_output_tokens")
    if task is Task.CHAT:
        limit = DEFAULT_OUTPUT_TOKENS if max_output_tokens is None else max_output_tokens
        if not 1 <= limit <= MOST_OUTPUT_TOKENS:
            raise InvalidRequest(
                f"The most output tokens are a number from 1 to {MOST_OUTPUT_TOKENS}, not {limit}.",
                param="max_output_tokens",
            )
    else:
        limit = 0
    if not candidates:
        raise InvalidRequest("A route needs a candidate: upstream/model.", param="candidates")
    return RouteEntry(
        tenant_id=checked_tenant(tenant_id),
        model=checked_name(model),
        task=task,
        candidates=tuple(_candidate(text, limit, limit_field or LIMIT_FIELDS[0]) for text in candidates),
    )


def checked_name(model: str) -> str:
    """Return a public model name. Raises `InvalidRequest` for what nobody could ask for."""
    if len(model) > LONGEST_NAME or _WORD.fullmatch(model) is None:
        raise InvalidRequest(
            f"{model!r} cannot be a model's name: 1 to {LONGEST_NAME} characters, none of them a space.", param="model"
        )
    return model


def checked_tenant(tenant_id: str) -> str:
    """Return `EVERYBODY` or a tenant's id. Raises `InvalidRequest` for what cannot be one."""
    if tenant_id != EVERYBODY and _TENANT.fullmatch(tenant_id) is None:
        raise InvalidRequest(
            f"{tenant_id!r} is no tenant: an id begins with ten_ (GET /admin/v1/tenants lists them), "
            f"and {EVERYBODY} is for everybody.",
            param="tenant_id",
        )
    return tenant_id


def _candidate(text: str, max_output_tokens: int, limit_field: str) -> RouteCandidate:
    upstream, _, model = text.partition("/")
    if not (upstream and model) or len(text) > LONGEST_NAME or _WORD.fullmatch(text) is None:
        raise InvalidRequest(
            f"{text!r} is no candidate: it is the name of an upstream and that of its model, as in openai/gpt-5-mini.",
            param="candidates",
        )
    return RouteCandidate(upstream, model, max_output_tokens, limit_field)
