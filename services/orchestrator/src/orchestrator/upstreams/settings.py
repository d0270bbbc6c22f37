"""Settings of upstreams."""

from __future__ import annotations

from typing import Annotated

from chassis.settings import Section
from chassis.settings.sections import refuse_placeholder, split_secrets
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode


class UpstreamsSection(Section):
    """Upstreams and credentials that are declared by the API."""

    credential_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that wrap the data keys of credentials, of at least 32 characters, separated by commas: the "
        "first wraps, all unwrap. The same as INFERENCE_WORKER_CREDENTIAL_KEYS. Unset: no credentials by the API.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts that upstreams may have although they are link-local or metadata services, separated by "
        "commas. Workers have a setting of their own: INFERENCE_WORKER_ALLOW_LINK_LOCAL.",
    )

    @field_validator("credential_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return split_secrets(value)

    @field_validator("credential_keys")
    @classmethod
    def _are_secret(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            refuse_placeholder(secret)
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    def keys(self) -> list[str]:
        return [key.get_secret_value() for key in self.credential_keys]
