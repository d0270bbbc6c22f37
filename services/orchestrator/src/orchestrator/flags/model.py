"""Flags, what they are evaluated for, and what an evaluation gives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from chassis.errors import ArgosyError, Kind

BASIS_POINTS: Final = 10_000
"""The whole: percentages have two decimals."""
ON, OFF = "on", "off"
"""The variants of a switch."""


class FlagNotFound(ArgosyError):
    """There is no flag of that key, or it has no such version."""

    kind, reason = Kind.NOT_FOUND, "FLAG_NOT_FOUND"


class FlagVersionConflict(ArgosyError):
    """The flag was changed since the version that the request names; read it again."""

    kind, reason = Kind.CONFLICT, "FLAG_VERSION_CONFLICT"


class FeatureDisabled(ArgosyError):
    """The operator has switched this feature, model, upstream or tool off; `param` is the key of the flag.

    Nothing was called and nothing costs anything. A retry at once does not help: do without the feature until it is
    back.
    """

    kind, reason = Kind.DENIED, "FEATURE_DISABLED"


class FlagKind(StrEnum):
    """What a flag is about: the part of its key before the first dot."""

    FEATURE = "feature"
    MODEL = "model"
    UPSTREAM = "upstream"
    TOOL = "tool"
    GUARD = "guard"
    APP = "app"
    """Flags of your own, of any type; Argosy itself reads none of them."""


SWITCHES: Final = frozenset(FlagKind) - {FlagKind.APP}


class Feature(StrEnum):
    """Features that a switch can name."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    RETRIEVAL = "retrieval"
    JOBS = "jobs"
    BATCHES = "batches"
    CACHE = "cache"
    FILES = "files"
    VECTOR_STORES = "vector_stores"


class FlagType(StrEnum):
    """The type of a flag's values, by OpenFeature."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


class EvaluationReason(StrEnum):
    """Why an evaluation gave its value; OpenFeature's reasons, and KILLED."""

    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    DISABLED = "DISABLED"
    KILLED = "KILLED"


class FlagContext(NamedTuple):
    """What a flag is evaluated for. Empty strings are unknown and match no target."""

    tenant_id: str
    plan: str = ""
    model: str = ""
    upstream: str = ""


class Evaluation(NamedTuple):
    """Without a variant the caller's default holds."""

    variant: str | None
    reason: EvaluationReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Gives `variant` to what matches all targets that are named. An empty set of targets names none."""

    variant: str
    tenants: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    upstreams: frozenset[str] = frozenset()
    basis_points: int | None = None
    """Of tenants, by `bucket`; None for all of them."""

    def matches(self, key: str, context: FlagContext) -> bool:
        return (
            (not self.tenants or context.tenant_id in self.tenants)
            and (not self.plans or context.plan in self.plans)
            and (not self.models or context.model in self.models)
            and (not self.upstreams or context.upstream in self.upstreams)
            and (self.basis_points is None or bucket(key, context.tenant_id) < self.basis_points)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A flag as it is stored. The first rule that matches decides; if none does, the default variant."""

    key: str
    type: FlagType
    variants: Mapping[str, Any]
    default_variant: str
    rules: tuple[Rule, ...] = ()
    enabled: bool = True
    """False: the flag is ignored, and each reader uses its own default. A switch that is ignored is on."""
    killed: bool = False
    """True: off for all, whatever the rules say. Only booleans can be."""
    description: str = ""

    def evaluate(self, context: FlagContext) -> Evaluation:
        if self.killed:
            return Evaluation(self.off_variant, EvaluationReason.KILLED)
        if not self.enabled:
            return Evaluation(None, EvaluationReason.DISABLED)
        for rule in self.rules:
            if rule.matches(self.key, context):
                split = rule.basis_points is not None
                return Evaluation(rule.variant, EvaluationReason.SPLIT if split else EvaluationReason.TARGETING_MATCH)
        return Evaluation(self.default_variant, EvaluationReason.DEFAULT)

    @property
    def off_variant(self) -> str | None:
        """The first variant that is false; None if there is none."""
        return next((name for name, value in self.variants.items() if value is False), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFlag:
    """A flag, and its last change."""

    flag: Flag
    version: int
    """The version of the configuration that has it."""
    updated_at: datetime


def bucket(key: str, tenant_id: str) -> int:
    """Return the tenant's place from 0 to 9,999 for this flag.

    The first eight bytes of SHA-256 of `key`, a slash and `tenant_id` in UTF-8, as a big-endian number, times 10,000,
    divided by 2^64. A tenant that a percentage includes is included by every higher one.
    """
    digest = hashlib.sha256(f"{key}/{tenant_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * BASIS_POINTS >> 64
