"""Checks a flag that an operator writes before it is stored."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chassis.errors import InvalidRequest

from orchestrator.flags.model import BASIS_POINTS, OFF, ON, Feature, Flag, FlagKind, FlagType, Rule

GUARDS: Final[frozenset[str]] = frozenset()
"""Guards that a switch can name; this version has none."""
MAX_KEY, MAX_VARIANTS, MAX_RULES, MAX_TARGETS, MAX_DESCRIPTION = 300, 20, 20, 1_000, 1_000

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_VARIANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TENANT = re.compile(r"ten_[0-9A-Za-z]{1,64}")
_PYTHON_TYPES: Final[Mapping[FlagType, tuple[type, ...]]] = {
    FlagType.BOOLEAN: (bool,),
    FlagType.STRING: (str,),
    FlagType.INTEGER: (int,),
    FlagType.FLOAT: (int, float),
    FlagType.OBJECT: (dict, list),
}


@dataclass(frozen=True, slots=True)
class KnownNames:
    """What routes name now: a flag or a target of another name is a typing error."""

    models: Collection[str]
    upstreams: Collection[str]


def default_switch(key: str, known: KnownNames) -> Flag:
    """Make the switch of a key that has no flag yet: on for all. Raises InvalidRequest for an unknown key."""
    flag = Flag(key=key, type=FlagType.BOOLEAN, variants={ON: True, OFF: False}, default_variant=ON)
    return check_flag(flag, known)


def check_flag(flag: Flag, known: KnownNames) -> Flag:
    """Return the flag. Raises InvalidRequest, which says what is wrong and where."""
    kind = check_key(flag.key, known)
    _check_variants(flag)
    if kind is not FlagKind.APP and (
        flag.type is not FlagType.BOOLEAN or dict(flag.variants) != {ON: True, OFF: False}
    ):
        raise InvalidRequest(
            f"{flag.key} is a switch: its type is boolean, and its variants are on: true and off: false.",
            param="variants",
        )
    if flag.killed and flag.off_variant is None:
        raise InvalidRequest(f"{flag.key} has no variant that is false, so it cannot be killed.", param="key")
    if len(flag.description) > MAX_DESCRIPTION:
        raise InvalidRequest(f"A description has at most {MAX_DESCRIPTION} characters.", param="description")
    if len(flag.rules) > MAX_RULES:
        raise InvalidRequest(f"A flag has at most {MAX_RULES} rules.", param="rules")
    for number, rule in enumerate(flag.rules):
        _check_rule(flag, rule, f"rules[{number}]", known)
    return flag


def check_key(key: str, known: KnownNames) -> FlagKind:
    """Return the kind of a key that can be a flag's. Raises InvalidRequest."""
    prefix, _, name = key.partition(".")
    if prefix not in set(map(str, FlagKind)) or not name or len(key) > MAX_KEY:
        raise InvalidRequest(
            f"{key!r} is no flag: a key is {', '.join(f'{kind}.<name>' for kind in FlagKind)}.", param="key"
        )
    kind = FlagKind(prefix)
    if kind is FlagKind.FEATURE:
        _check_known(name, "feature", set(map(str, Feature)), "key")
    elif kind is FlagKind.MODEL:
        _check_known(name, "model", known.models, "key")
    elif kind is FlagKind.UPSTREAM:
        _check_known(name, "upstream", known.upstreams, "key")
    elif kind is FlagKind.GUARD:
        _check_known(name, "guard", GUARDS, "key")
    elif _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name!r} cannot be a name after {kind}.: 1 to 64 letters, digits, dots, hyphens and underscores.",
            param="key",
        )
    return kind


def _check_variants(flag: Flag) -> None:
    if not 1 <= len(flag.variants) <= MAX_VARIANTS:
        raise InvalidRequest(f"A flag has 1 to {MAX_VARIANTS} variants.", param="variants")
    for name, value in flag.variants.items():
        if _VARIANT.fullmatch(name) is None:
            raise InvalidRequest(f"{name!r} cannot be a variant's name.", param="variants")
        if not _has_type(value, flag.type):
            raise InvalidRequest(f"The variant {name!r} is not of the type {flag.type}.", param=f"variants.{name}")
    _check_variant(flag, flag.default_variant, "default_variant")


def _check_rule(flag: Flag, rule: Rule, where: str, known: KnownNames) -> None:
    _check_variant(flag, rule.variant, f"{where}.variant")
    named = {
        "tenants": rule.tenants,
        "plans": rule.plans,
        "models": rule.models,
        "upstreams": rule.upstreams,
    }
    if not any(named.values()) and rule.basis_points is None:
        raise InvalidRequest(
            "A rule names tenants, plans, models, upstreams or a percentage; for all, change default_variant.",
            param=where,
        )
    if sum(map(len, named.values())) > MAX_TARGETS:
        raise InvalidRequest(f"A rule names at most {MAX_TARGETS} targets.", param=where)
    if rule.basis_points is not None and not 0 <= rule.basis_points <= BASIS_POINTS:
        raise InvalidRequest("A percentage is a number from 0 to 100 with two decimals.", param=f"{where}.percentage")
    for tenant_id in sorted(rule.tenants):
        if _TENANT.fullmatch(tenant_id) is None:
            raise InvalidRequest(f"{tenant_id!r} is no tenant: an id begins with ten_.", param=f"{where}.tenants")
    for plan in sorted(rule.plans):
        if not plan.strip():
            raise InvalidRequest("The name of a plan is not empty.", param=f"{where}.plans")
    for model in sorted(rule.models):
        _check_known(model, "model", known.models, f"{where}.models")
    for upstream in sorted(rule.upstreams):
        _check_known(upstream, "upstream", known.upstreams, f"{where}.upstreams")
    if rule.upstreams and not flag.key.startswith((f"{FlagKind.UPSTREAM}.", f"{FlagKind.APP}.")):
        raise InvalidRequest(
            f"{flag.key} is read before an upstream is chosen, so a rule with upstreams never matches.",
            param=f"{where}.upstreams",
        )


def _check_variant(flag: Flag, variant: str, where: str) -> None:
    if variant not in flag.variants:
        raise InvalidRequest(f"{variant!r} is none of the variants {', '.join(sorted(flag.variants))}.", param=where)


def _check_known(name: str, what: str, known: Collection[str], where: str) -> None:
    if name in known:
        return
    names = ", ".join(sorted(map(str, known))[:20]) or "none"
    raise InvalidRequest(f"There is no {what} {name!r}; there are: {names}.", param=where)


def _has_type(value: Any, flag_type: FlagType) -> bool:
    if isinstance(value, bool) and flag_type is not FlagType.BOOLEAN:
        return False
    return isinstance(value, _PYTHON_TYPES[flag_type])
