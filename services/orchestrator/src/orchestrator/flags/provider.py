"""Our provider of the OpenFeature SDK. The hot path does not use it: it reads the snapshot (ADR 25)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from chassis.errors import Unavailable
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, ProviderNotReadyError, TargetingKeyMissingError, TypeMismatchError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from orchestrator.flags.model import FlagContext, FlagType
from orchestrator.flags.snapshot import FlagCache

T = TypeVar("T")
DOMAIN = "argosy"


class ArgosyProvider(AbstractProvider):
    """Resolves flags from the snapshot in memory.

    The targeting key is the tenant; `plan`, `model` and `upstream` are attributes. Without a targeting key nothing is
    evaluated: an empty one would put all tenants into one bucket.
    """

    def __init__(self, cache: FlagCache) -> None:
        super().__init__()
        self._cache = cache

    def get_metadata(self) -> Metadata:
        return Metadata("argosy")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, FlagType.BOOLEAN, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, FlagType.STRING, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, FlagType.INTEGER, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, FlagType.FLOAT, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve(flag_key, FlagType.OBJECT, default_value, evaluation_context)

    def _resolve(
        self, key: str, flag_type: FlagType, default: T, context: EvaluationContext | None
    ) -> FlagResolutionDetails[T]:
        try:
            flag = self._cache.snapshot().flags.get(key)
        except Unavailable as error:
            raise ProviderNotReadyError(error.message) from error
        if flag is None:
            raise FlagNotFoundError(f"There is no flag {key!r}.")
        if flag.type is not flag_type:
            raise TypeMismatchError(f"The flag {key!r} is of the type {flag.type}.")
        if context is None or not context.targeting_key:
            raise TargetingKeyMissingError("The targeting key is the tenant's id.")
        named = {name: str(context.attributes.get(name, "")) for name in ("plan", "model", "upstream")}
        variant, reason = flag.evaluate(FlagContext(context.targeting_key, **named))
        value = default if variant is None else flag.variants[variant]
        return FlagResolutionDetails(value=value, reason=reason.value, variant=variant)


def openfeature_client(cache: FlagCache) -> OpenFeatureClient:
    """Register the provider in the domain `argosy`, and return a client of it."""
    api.set_provider_and_wait(ArgosyProvider(cache), DOMAIN)
    return api.get_client(DOMAIN)


def evaluate(
    client: OpenFeatureClient, key: str, flag_type: FlagType, context: FlagContext
) -> FlagEvaluationDetails[Any]:
    """Evaluate a flag as any user of the SDK does; the default is the type's zero, for a boolean true."""
    given = EvaluationContext(
        context.tenant_id, {"plan": context.plan, "model": context.model, "upstream": context.upstream}
    )
    methods: dict[FlagType, tuple[Any, Any]] = {
        FlagType.BOOLEAN: (client.get_boolean_details, True),
        FlagType.STRING: (client.get_string_details, ""),
        FlagType.INTEGER: (client.get_integer_details, 0),
        FlagType.FLOAT: (client.get_float_details, 0.0),
        FlagType.OBJECT: (client.get_object_details, {}),
    }
    method, default = methods[flag_type]
    details: FlagEvaluationDetails[Any] = method(key, default, given)
    return details
