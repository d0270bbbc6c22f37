"""API keys as the API shows them."""

from typing import Annotated, Literal, Self

from pydantic import Field
from values.roles import MEMBER

from gateway.auth.api_key import ApiKey
from gateway.auth.roles import Role
from gateway.web.schemas import Id, OptionalName, Resource, StrictBody, Timestamp, unix_seconds


class ApiKeyCreate(StrictBody):
    tenant_id: Id
    project_id: Id
    name: OptionalName = ""
    roles: Annotated[list[Role], Field(min_length=1, max_length=8)] = Field([MEMBER])
    expires_at: Timestamp | None = None


class ApiKeyRead(Resource):
    """The record of a key, without its text."""

    object: Literal["api_key"] = "api_key"
    tenant_id: str
    project_id: str
    name: str
    env: str
    roles: list[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.key_id,
            tenant_id=key.tenant_id,
            project_id=key.project_id,
            name=key.name,
            env=key.env,
            roles=sorted(key.roles),
            created_at=unix_seconds(key.created_at),
            expires_at=unix_seconds(key.expires_at) if key.expires_at else None,
            revoked_at=unix_seconds(key.revoked_at) if key.revoked_at else None,
        )


class ApiKeyCreated(ApiKeyRead):
    """A new key with its text, which cannot be read again."""

    key: str
