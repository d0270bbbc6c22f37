"""Routes as JSON documents: what the API takes and shows, what versions keep, and what a file declares."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from enum import StrEnum
from typing import Any, Never, TypeVar

from chassis.errors import InvalidRequest
from values.usage import BillingUnit

from orchestrator.routing.edit import (
    DEFAULT_OUTPUT_TOKENS,
    LIMIT_FIELDS,
    MAX_OUTPUT_TOKENS,
    check_model_name,
    check_tenant,
    parse_candidate,
)
from orchestrator.routing.model import Provider, RouteCandidate, RouteEntry, Task, UnknownFields
from orchestrator.routing.policy import (
    DEFAULT_POLICY,
    CachePolicy,
    Capabilities,
    Charge,
    Conditions,
    RetryPolicy,
    RightSizing,
    RoutePolicy,
    Strategy,
)
from orchestrator.workers.model import CandidateRole

Document = dict[str, Any]
E = TypeVar("E", bound=StrEnum)

FALLBACKS = (CandidateRole.CONTEXT_OVERFLOW, CandidateRole.CONTENT_POLICY)

_ROUTE = ("task", "strategy", "sticky", "candidates", "fallbacks", "cache", "retry", "right_sizing")
_CANDIDATE = (
    *("upstream", "model", "max_output_tokens", "limit_field", "unknown_fields", "provider"),
    *("weight", "priority", "conditions", "capabilities", "billing_unit"),
)
_OPTIONS = ("weight", "priority", "conditions", "capabilities", "billing_unit")
_CAPABILITIES = tuple(field.name for field in fields(Capabilities))
_CACHE = tuple(field.name for field in fields(CachePolicy))
_SIZING = tuple(field.name for field in fields(RightSizing))
_MAX_NUMBER = 1_000_000_000


def entry_to_document(entry: RouteEntry) -> Document:
    """Write a route with all its fields, defaults included; but the unit only where it is not tokens."""
    policy, written = entry.policy, [(one.role, _candidate_to_document(one)) for one in entry.candidates]
    sizing = policy.right_sizing
    return {
        "task": entry.task.value,
        "strategy": policy.strategy.value,
        "sticky": policy.sticky,
        "candidates": [one for role, one in written if role is CandidateRole.PRIMARY],
        "fallbacks": {name.value: [one for role, one in written if role is name] for name in FALLBACKS},
        "cache": {**asdict(policy.cache), "charge": policy.cache.charge.value},
        "retry": asdict(policy.retry),
        "right_sizing": None if sizing is None else _sorted_sets(asdict(sizing)),
    }


def _candidate_to_document(candidate: RouteCandidate) -> Document:
    conditions, unit = candidate.conditions, candidate.billing_unit
    # A version that does not know the field refuses it.
    billed = {} if unit is BillingUnit.TOKENS else {"billing_unit": unit.value}
    return {
        "upstream": candidate.upstream,
        "model": candidate.model,
        "max_output_tokens": candidate.max_output_tokens,
        "limit_field": candidate.limit_field,
        "unknown_fields": candidate.unknown_fields and candidate.unknown_fields.value,
        "provider": candidate.provider and candidate.provider.value,
        "weight": candidate.weight,
        "priority": candidate.priority,
        "conditions": {
            "plans": sorted(conditions.plans),
            "countries": sorted(conditions.countries),
            "tags": {name: sorted(values) for name, values in conditions.tags},
        },
        "capabilities": asdict(candidate.capabilities),
        **billed,
    }


def _sorted_sets(document: Document) -> Document:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in document.items()}


def document_to_entry(tenant_id: str, model: str, document: object) -> RouteEntry:
    """Read a route. Raises `InvalidRequest` with the path of what is wrong, and for a name that is not known."""
    read = _object(document, "", _ROUTE)
    task = _choice(Task, read.get("task", Task.CHAT), "task")
    fallbacks = _object(read.get("fallbacks"), "fallbacks", FALLBACKS)
    candidates = [
        _candidate(one, path, task, role)
        for role, path, listed in (
            (CandidateRole.PRIMARY, "candidates", read.get("candidates")),
            *((role, f"fallbacks.{role}", fallbacks.get(role)) for role in FALLBACKS),
        )
        for one, path in _items(listed, path)
    ]
    policy = RoutePolicy(
        _choice(Strategy, read.get("strategy", Strategy.ORDERED), "strategy"),
        _flag(read.get("sticky", False), "sticky"),
        _cache(read.get("cache")),
        _retry(read.get("retry")),
        _sizing(read.get("right_sizing")),
    )
    return RouteEntry(check_tenant(tenant_id), check_model_name(model), task, tuple(candidates), policy)


def document_to_capabilities(document: object) -> Capabilities:
    """Read what an upstream says of its models."""
    return _capabilities(document, "capabilities")


def policy_to_document(policy: RoutePolicy) -> Document:
    """Write the part of a route that is not its candidates."""
    document = entry_to_document(RouteEntry("*", "-", Task.CHAT, (), policy))
    return {name: document[name] for name in ("strategy", "sticky", "cache", "retry", "right_sizing")}


def document_to_policy(document: object) -> RoutePolicy:
    """Read what `policy_to_document` wrote; what is missing has its default."""
    return document_to_entry("*", "-", document).policy if document else DEFAULT_POLICY


def options_to_document(candidate: RouteCandidate) -> Document:
    """Write what a candidate has beside its columns."""
    document = _candidate_to_document(candidate)
    return {name: document[name] for name in _OPTIONS if name in document}


def with_options(candidate: RouteCandidate, document: Mapping[str, object], role: CandidateRole) -> RouteCandidate:
    """Add what `options_to_document` wrote; what is missing has its default."""
    if not document:
        return candidate if role is candidate.role else replace(candidate, role=role)
    return replace(candidate, role=role, **_options(document, "candidates"))


def _candidate(value: object, path: str, task: Task, role: CandidateRole) -> RouteCandidate:
    read = _object(value, path, _CANDIDATE)
    upstream, model = read.get("upstream"), read.get("model")
    if not isinstance(upstream, str) or not isinstance(model, str):
        _refuse(path, "needs the name of an upstream and that of its model")
    parsed = parse_candidate(f"{upstream}/{model}")
    if parsed != (upstream, model):
        _refuse(f"{path}.upstream", "has a slash")
    default = DEFAULT_OUTPUT_TOKENS if task is Task.CHAT else 0
    minimum, maximum = (1, MAX_OUTPUT_TOKENS) if task is Task.CHAT else (0, 0)
    output = _number(read.get("max_output_tokens", default), f"{path}.max_output_tokens", minimum, maximum)
    limit_field = read.get("limit_field", LIMIT_FIELDS[0])
    if limit_field not in LIMIT_FIELDS:
        _refuse(f"{path}.limit_field", f"is none of {', '.join(LIMIT_FIELDS)}")
    if "billing_unit" in read and task is not Task.RERANK:
        _refuse(f"{path}.billing_unit", "is for the task rerank: other tasks are billed by tokens")
    unknown, provider = read.get("unknown_fields"), read.get("provider")
    return RouteCandidate(
        upstream,
        model,
        output,
        limit_field,
        None if unknown is None else _choice(UnknownFields, unknown, f"{path}.unknown_fields"),
        None if provider is None else _choice(Provider, provider, f"{path}.provider"),
        role,
        **_options(read, path),
    )


def _options(read: Mapping[str, object], path: str) -> dict[str, Any]:
    return {
        "weight": _number(read.get("weight", 100), f"{path}.weight", 0, 1_000_000),
        "priority": _number(read.get("priority", 0), f"{path}.priority", 0, 1_000),
        "conditions": _conditions(read.get("conditions"), f"{path}.conditions"),
        "capabilities": _capabilities(read.get("capabilities"), f"{path}.capabilities"),
        "billing_unit": _choice(BillingUnit, read.get("billing_unit", BillingUnit.TOKENS), f"{path}.billing_unit"),
    }


def _conditions(value: object, path: str) -> Conditions:
    read = _object(value, path, ("plans", "countries", "tags"))
    countries = _strings(read.get("countries"), f"{path}.countries")
    for country in countries:
        if len(country) != 2 or not country.isalpha() or not country.isupper():
            _refuse(f"{path}.countries", f"has {country!r}, which is no code of two capital letters")
    tags = read.get("tags") or {}
    if not isinstance(tags, dict):
        _refuse(f"{path}.tags", "is not an object")
    return Conditions(
        _strings(read.get("plans"), f"{path}.plans"),
        countries,
        tuple(sorted((name, _strings(values, f"{path}.tags.{name}")) for name, values in tags.items())),
    )


def _capabilities(value: object, path: str) -> Capabilities:
    read = _object(value, path, _CAPABILITIES)
    context = read.get("context_tokens")
    flags = {
        name: _flag(read[name], f"{path}.{name}")
        for name in _CAPABILITIES
        if name != "context_tokens" and read.get(name) is not None
    }
    size = None if context is None else _number(context, f"{path}.context_tokens", 1, _MAX_NUMBER)
    return Capabilities(**flags, context_tokens=size)


def _cache(value: object) -> CachePolicy:
    read, default = _object(value, "cache", _CACHE), CachePolicy()
    threshold = read.get("threshold", default.threshold)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        _refuse("cache.threshold", "is not a number above 0 and at most 1")
    return CachePolicy(
        _flag(read.get("disabled", default.disabled), "cache.disabled"),
        _flag(read.get("exact", default.exact), "cache.exact"),
        _flag(read.get("semantic", default.semantic), "cache.semantic"),
        _number(read.get("ttl_seconds", default.ttl_seconds), "cache.ttl_seconds", 1, 31_536_000),
        float(threshold),
        _number(read.get("stale_if_error_seconds", 0), "cache.stale_if_error_seconds", 0, 31_536_000),
        _choice(Charge, read.get("charge", default.charge), "cache.charge"),
        _number(read.get("discount_percent", default.discount_percent), "cache.discount_percent", 0, 100),
    )


def _retry(value: object) -> RetryPolicy:
    attempts = _object(value, "retry", ("max_attempts",)).get("max_attempts")
    return RetryPolicy(None if attempts is None else _number(attempts, "retry.max_attempts", 1, 16))


def _sizing(value: object) -> RightSizing | None:
    if value is None:
        return None
    read, path = _object(value, "right_sizing", _SIZING), "right_sizing"
    cheap = _strings(read.get("cheap"), f"{path}.cheap")
    if not cheap:
        _refuse(f"{path}.cheap", "names no candidate")
    return RightSizing(
        cheap,
        _number(read.get("max_input_bytes", 2_000), f"{path}.max_input_bytes", 1, _MAX_NUMBER),
        _flag(read.get("allow_tools", False), f"{path}.allow_tools"),
        _flag(read.get("allow_json_schema", True), f"{path}.allow_json_schema"),
        frozenset(word.casefold() for word in _strings(read.get("hard_words"), f"{path}.hard_words")),
        frozenset(word.casefold() for word in _strings(read.get("easy_words"), f"{path}.easy_words")),
    )


def _items(value: object, path: str) -> list[tuple[object, str]]:
    if not isinstance(value or [], list):
        _refuse(path, "is not a list")
    listed: Sequence[object] = value or []  # type: ignore[assignment]
    return [(one, f"{path}[{index}]") for index, one in enumerate(listed)]


def _object(value: object, path: str, known: Sequence[str]) -> Document:
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse(path or "the route", "is not an object")
    for name in value:
        # A misspelt condition that is ignored would match everything.
        if name not in known:
            _refuse(f"{path}.{name}" if path else str(name), f"is not known here: {', '.join(known)}")
    return value


def _strings(value: object, path: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        _refuse(path, "is not a list of texts")
    return frozenset(value)


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        _refuse(path, "is not true or false")
    return value


def _number(value: object, path: str, minimum: int, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        _refuse(path, f"is not a whole number from {minimum} to {maximum}")
    return value


def _choice(kind: type[E], value: object, path: str) -> E:
    try:
        return kind(str(value))
    except ValueError:
        _refuse(path, f"is none of {', '.join(kind)}")


def _refuse(path: str, why: str) -> Never:
    raise InvalidRequest(f"{path} {why}.", param=path)
