"""What `argosy.yaml` declares, in the shapes of the API."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.budgets.schemas import Usd
from gateway.flags.schemas import FlagDeclaration, FlagKey
from gateway.prices.schemas import PricedClass, PriceKey
from gateway.routes.schemas import ModelName, RouteDocument
from gateway.upstreams.schemas import Label, TenantOrAll, UpstreamDocument, UpstreamName, Weight
from gateway.web.schemas import Id, StrictBody


class DeclaredCredential(StrictBody):
    """A credential whose secret is in an environment variable. Added when there is none of its label."""

    label: Annotated[Label, Field(min_length=1)]
    secret_env: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$", description="The variable that has the secret.")]
    tenant_id: TenantOrAll = "*"
    weight: Weight = 1


class DeclaredUpstream(UpstreamDocument):
    """An upstream, and its credentials without their secrets."""

    credentials: list[DeclaredCredential] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Self:
        named = [(one.tenant_id, one.label) for one in self.credentials]
        if len(set(named)) < len(named):
            raise ValueError("two credentials of one tenant have the same label")
        return self


class DeclaredPrice(StrictBody):
    """US dollars per million tokens. Zero is a price.

    Classes of tokens without a price of their own have that of input or output.
    """

    input_per_million_usd: Usd
    output_per_million_usd: Usd
    classes_per_million_usd: dict[PricedClass, Usd] = Field(default_factory=dict)


class DeclaredTenant(StrictBody):
    """What is a tenant's own."""

    routes: dict[ModelName, RouteDocument] = Field(default_factory=dict)


class Declaration(StrictBody):
    """Everything that the file declares."""

    upstreams: dict[UpstreamName, DeclaredUpstream] = Field(default_factory=dict)
    prices: dict[PriceKey, DeclaredPrice] = Field(default_factory=dict)
    routes: dict[ModelName, RouteDocument] = Field(default_factory=dict)
    tenants: dict[Id, DeclaredTenant] = Field(default_factory=dict)
    flags: dict[FlagKey, FlagDeclaration] = Field(default_factory=dict)

    def all_routes(self) -> dict[tuple[str, str], RouteDocument]:
        """Routes by tenant (or `*`) and model."""
        public = {("*", model): route for model, route in self.routes.items()}
        own = {
            (tenant_id, model): route
            for tenant_id, tenant in self.tenants.items()
            for model, route in tenant.routes.items()
        }
        return {**public, **own}
