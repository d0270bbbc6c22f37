"""Settings of Kafka: brokers, authentication, and the keys that sign events."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from chassis.settings.addresses import check_addresses
from chassis.settings.sections import Section, refuse_placeholder, split_secrets

KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)


class KafkaConnection(Section):
    """The brokers, and how clients encrypt and authenticate."""

    bootstrap: str = Field("127.0.0.1:9092", description="Bootstrap brokers: `host:port`, separated by commas.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Encryption of and authentication to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, validate_default=True, description="How the service authenticates; for `SASL_PLAINTEXT` and `SASL_SSL`."
    )
    sasl_username: str | None = Field(
        None, min_length=1, validate_default=True, description="User; for `SASL_PLAINTEXT` and `SASL_SSL`."
    )
    sasl_password: SecretStr | None = Field(
        None, min_length=1, validate_default=True, description="Password; for `SASL_PLAINTEXT` and `SASL_SSL`."
    )
    ca_file: Path | None = Field(
        None,
        description="Certificates that the brokers' are verified against; for `SSL` and `SASL_SSL`. "
        "Unset: those of the system.",
    )

    @field_validator("bootstrap")
    @classmethod
    def _check_bootstrap(cls, value: str) -> str:
        check_addresses(value)
        return value

    @field_validator("sasl_mechanism", "sasl_username", "sasl_password")
    @classmethod
    def _check_sasl(cls, value: object, info: ValidationInfo) -> object:
        protocol = info.data.get("security_protocol")
        if protocol is None:
            return value  # it was refused itself
        if protocol.startswith("SASL") and value is None:
            raise ValueError(f"is required when security_protocol is {protocol}")
        if not protocol.startswith("SASL") and value is not None:
            raise ValueError(f"has no effect while security_protocol is {protocol}")
        return value

    @field_validator("ca_file")
    @classmethod
    def _check_ca_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        protocol = info.data.get("security_protocol")
        if value is None or protocol is None:
            return value
        if not protocol.endswith("SSL"):
            raise ValueError(f"has no effect while security_protocol is {protocol}")
        try:
            ssl.create_default_context(cafile=value)
        except OSError as error:  # also ssl.SSLError
            raise ValueError(f"has no certificates that can be read ({error.strerror or error})") from error
        return value


class KafkaSection(KafkaConnection):
    """Kafka, for events between services."""

    group: str = Field(description="Consumer group; one per deployment.")
    signing_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        min_length=1,
        description="Keys of events, `id:secret`, separated by commas: the first signs, all verify. "
        "Secrets have at least 32 characters; all services have the same keys.",
    )

    @field_validator("signing_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_secrets(value)

    @field_validator("signing_keys")
    @classmethod
    def _check_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        ids = []
        for key in value:
            name, separator, secret = key.get_secret_value().partition(":")
            if not separator or KEY_ID.fullmatch(name) is None:
                raise ValueError("each key is `id:secret`, its id of letters, digits, `_`, `.` and `-`")
            refuse_placeholder(SecretStr(secret))
            ids.append(name)
        if len(set(ids)) < len(ids):
            raise ValueError("two keys have the same id")
        return value
