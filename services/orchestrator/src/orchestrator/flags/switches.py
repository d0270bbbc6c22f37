"""What switches do to a request, before anything is reserved or called."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from chassis.tenancy import Principal

from orchestrator.flags.model import Feature, FeatureDisabled, FlagContext, FlagKind
from orchestrator.flags.snapshot import FlagSnapshot, Variants


class HasUpstream(Protocol):
    """A candidate of a route."""

    @property
    def upstream(self) -> str: ...


C = TypeVar("C", bound=HasUpstream)


def require_feature(
    flags: FlagSnapshot, feature: Feature, principal: Principal, evaluated: Variants, *, model: str = ""
) -> None:
    """Raises FeatureDisabled."""
    if not is_feature_on(flags, feature, principal, evaluated, model=model):
        raise _disabled(FlagKind.FEATURE, feature)


def is_feature_on(
    flags: FlagSnapshot, feature: Feature, principal: Principal, evaluated: Variants, *, model: str = ""
) -> bool:
    """Whether the caller may use a feature that a request can do without."""
    return flags.is_on(FlagKind.FEATURE, feature, _context(principal, model), evaluated)


def require_model(flags: FlagSnapshot, feature: Feature, model: str, principal: Principal, evaluated: Variants) -> None:
    """Raises FeatureDisabled for a model, or a feature for it, that is off."""
    context = _context(principal, model)
    if not flags.is_on(FlagKind.FEATURE, feature, context, evaluated):
        raise _disabled(FlagKind.FEATURE, feature)
    if not flags.is_on(FlagKind.MODEL, model, context, evaluated):
        raise _disabled(FlagKind.MODEL, model)


def is_model_on(
    flags: FlagSnapshot, feature: Feature, model: str, candidates: Sequence[HasUpstream], principal: Principal
) -> bool:
    """Whether a request of the caller for this model would pass the switches."""
    try:
        require_model(flags, feature, model, principal, {})
        usable_candidates(flags, candidates, model, principal, {})
    except FeatureDisabled:
        return False
    return True


def usable_candidates(
    flags: FlagSnapshot, candidates: Sequence[C], model: str, principal: Principal, evaluated: Variants
) -> tuple[C, ...]:
    """Leave out candidates whose upstream is off. Raises FeatureDisabled, which names the first, when none is left."""
    if not flags.has(FlagKind.UPSTREAM):
        return tuple(candidates)
    usable = tuple(
        candidate
        for candidate in candidates
        if flags.is_on(
            FlagKind.UPSTREAM,
            candidate.upstream,
            FlagContext(principal.tenant_id, principal.plan, model, candidate.upstream),
            evaluated,
        )
    )
    if candidates and not usable:
        raise _disabled(FlagKind.UPSTREAM, candidates[0].upstream)
    return usable


def require_tools(flags: FlagSnapshot, tools: Any, model: str, principal: Principal, evaluated: Variants) -> None:
    """Raises FeatureDisabled for the first tool of a request's `tools` that is off. Malformed tools are not ours."""
    if not flags.has(FlagKind.TOOL) or not isinstance(tools, list):
        return
    context = _context(principal, model)
    for tool in tools:
        name = _tool_name(tool)
        if name and not flags.is_on(FlagKind.TOOL, name, context, evaluated):
            raise _disabled(FlagKind.TOOL, name)


def _tool_name(tool: Any) -> str:
    """The name of a function or of a custom tool: `{"type": "function", "function": {"name": …}}`."""
    described = tool.get(tool.get("type")) if isinstance(tool, dict) else None
    name = described.get("name") if isinstance(described, dict) else None
    return name if isinstance(name, str) else ""


def _context(principal: Principal, model: str) -> FlagContext:
    return FlagContext(principal.tenant_id, principal.plan, model)


def _disabled(kind: FlagKind, name: str) -> FeatureDisabled:
    key = f"{kind}.{name}"
    return FeatureDisabled(f"The {kind} {name!r} is switched off for you at the moment.", param=key)
