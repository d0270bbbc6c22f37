"""Feature flags as the API shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.web.schemas import Id, Name, StrictBody

MAX_VERSION = 2**53

FlagKey = Annotated[
    str,
    Field(
        max_length=300,
        pattern=r"^(feature|model|upstream|tool|guard|app)\.[^\x00-\x20\x7f]+$",
        description="`feature.<name>`, `model.<name>`, `upstream.<name>`, `tool.<name>`, `guard.<name>`: switches; "
        "`app.<name>`: a flag of your own.",
    ),
]
Reason = Annotated[
    str,
    Field(
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$",
        description="Why. The log of changes keeps it, with you as the author.",
    ),
]
Targets = Annotated[list[Name], Field(max_length=1_000)]
Value = bool | int | float | str | list[Any] | dict[str, Any]
Percentage = Annotated[
    float,
    Field(
        ge=0,
        le=100,
        description="Of tenants, with two decimals, by a hash of the flag's key and the tenant's id. A tenant within a "
        "percentage is within every higher one.",
    ),
]


def _on_and_off() -> dict[str, Value]:
    return {"on": True, "off": False}


class FlagRule(StrictBody):
    """Gives a variant to what matches all targets that are named."""

    variant: str
    tenants: list[Id] = Field(default_factory=list, max_length=50)
    plans: Targets = Field(default_factory=list)
    models: Targets = Field(default_factory=list)
    upstreams: Targets = Field(default_factory=list)
    percentage: Percentage | None = None


class FlagDeclaration(StrictBody):
    """A flag. Without `type` and `variants` it is a switch: on or off."""

    type: Literal["boolean", "string", "integer", "float", "object"] = "boolean"
    variants: dict[str, Value] = Field(default_factory=_on_and_off, max_length=20)
    default_variant: str = Field("on", description="For what no rule matches.")
    rules: list[FlagRule] = Field(default_factory=list, max_length=20, description="The first that matches decides.")
    enabled: bool = Field(True, description="False: the flag is ignored, and every reader uses its own default: on.")
    description: str = Field("", max_length=1_000)


class FlagPut(FlagDeclaration):
    """A flag, and why."""

    reason: Reason
    version: int | None = Field(
        None,
        ge=0,
        le=MAX_VERSION,
        description="Refuse unless it is the flag's version. 0: only create. null: replace.",
    )


class FlagReason(StrictBody):
    """Why."""

    reason: Reason


class FlagRollback(FlagReason):
    """The version to go back to."""

    version: int = Field(ge=1, le=MAX_VERSION)


class FlagDocument(BaseModel):
    """What a flag says."""

    type: Literal["boolean", "string", "integer", "float", "object"]
    variants: dict[str, Value]
    default_variant: str
    rules: list[FlagRule]
    enabled: bool
    killed: bool = Field(description="Off for all, whatever the rules say.")
    description: str


class FlagRead(FlagDocument):
    """A flag as it is now."""

    object: Literal["flag"] = "flag"
    key: str
    version: int = Field(description="The version of the configuration that has its last change.")
    updated_at: int


class FlagList(BaseModel):
    """All flags, by key."""

    object: Literal["list"] = "list"
    data: list[FlagRead]


class FlagChangeRead(BaseModel):
    """A change of a flag; `before` or `after` is null when there was no flag."""

    object: Literal["flag_change"] = "flag_change"
    version: int
    before: FlagDocument | None
    after: FlagDocument | None
    author: str
    reason: str
    changed_at: int


class FlagChangeList(BaseModel):
    """Changes of a flag, the newest first."""

    object: Literal["list"] = "list"
    data: list[FlagChangeRead]
    has_more: bool


class FlagEvaluate(StrictBody):
    """For whom."""

    tenant_id: Id
    plan: Name | None = Field(None, description="The tenant's own by default.")
    model: str = Field("", max_length=256)
    upstream: str = Field("", max_length=256)
    keys: list[FlagKey] = Field(default_factory=list, max_length=100, description="Without any: all flags.")


class FlagEvaluationRead(BaseModel):
    """What one flag gives, by OpenFeature's resolution details."""

    object: Literal["flag_evaluation"] = "flag_evaluation"
    key: str
    variant: str | None = Field(description="null: the reader's default holds.")
    value: Value
    reason: str = Field(description="DEFAULT, TARGETING_MATCH, SPLIT, DISABLED, or KILLED.")


class FlagEvaluationList(BaseModel):
    """By key."""

    object: Literal["list"] = "list"
    data: list[FlagEvaluationRead]
