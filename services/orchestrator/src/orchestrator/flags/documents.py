"""Flags as JSON documents: stored, logged and shown."""

from collections.abc import Mapping
from typing import Any

from chassis.errors import InvalidRequest

from orchestrator.flags.model import BASIS_POINTS, Flag, FlagType, Rule

_PERCENT = BASIS_POINTS // 100
_TARGETS = ("tenants", "plans", "models", "upstreams")


def flag_to_document(flag: Flag) -> dict[str, Any]:
    return {
        "type": flag.type.value,
        "variants": dict(flag.variants),
        "default_variant": flag.default_variant,
        "rules": [_rule_to_document(rule) for rule in flag.rules],
        "enabled": flag.enabled,
        "killed": flag.killed,
        "description": flag.description,
    }


def document_to_flag(key: str, document: Mapping[str, Any]) -> Flag:
    """Read a document. Raises InvalidRequest for one that is not of a flag's shape."""
    try:
        return Flag(
            key=key,
            type=FlagType(document["type"]),
            variants=dict(document["variants"]),
            default_variant=document["default_variant"],
            rules=tuple(_document_to_rule(rule) for rule in document.get("rules", ())),
            enabled=bool(document.get("enabled", True)),
            killed=bool(document.get("killed", False)),
            description=document.get("description", ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"the flag cannot be read: {error}", param="flag") from error


def _rule_to_document(rule: Rule) -> dict[str, Any]:
    document: dict[str, Any] = {"variant": rule.variant}
    for name in _TARGETS:
        if named := getattr(rule, name):
            document[name] = sorted(named)
    if rule.basis_points is not None:
        document["percentage"] = rule.basis_points / _PERCENT
    return document


def _document_to_rule(document: Any) -> Rule:
    percentage = document.get("percentage")
    return Rule(
        variant=document["variant"],
        **{name: frozenset(document.get(name, ())) for name in _TARGETS},
        basis_points=None if percentage is None else round(percentage * _PERCENT),
    )
