"""The log of changes as the API shows it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway.flags.schemas import MAX_VERSION, Reason
from gateway.web.schemas import OptionalName, StrictBody


class ConfigurationObject(BaseModel):
    """An object of the configuration, before and after. null: it did not exist, or does not any more. No secrets."""

    kind: str = Field(description="`route`, `upstream`, `credential`, `data_key`, `flag`, `cache`.")
    tenant_id: str = Field(description="`*` for what holds for all tenants.")
    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ConfigurationChange(ConfigurationObject):
    """One change."""

    object: Literal["configuration.change"] = "configuration.change"
    version: int
    author: str
    reason: str
    changed_at: int


class ConfigurationChangeList(BaseModel):
    """Changes, the newest first."""

    object: Literal["list"] = "list"
    data: list[ConfigurationChange]
    has_more: bool


class ConfigurationDiff(BaseModel):
    """What differs between two versions."""

    object: Literal["list"] = "list"
    data: list[ConfigurationObject]


class ConfigurationRollback(StrictBody):
    """To which version, and what. Empty texts match all."""

    reason: Reason
    version: int = Field(ge=0, le=MAX_VERSION, description="Objects become what they were at this version.")
    kind: OptionalName = ""
    tenant_id: OptionalName = ""
    name: OptionalName = ""
    dry_run: bool = Field(False, description="Change nothing, and say what would change.")


class ConfigurationRolledBack(BaseModel):
    """What was changed."""

    object: Literal["configuration.rollback"] = "configuration.rollback"
    version: int = Field(description="The version afterwards.")
    restored: list[ConfigurationObject]
    kept: list[ConfigurationObject] = Field(
        description="Objects that a rollback leaves as they are: a revoked credential stays revoked."
    )
