"""Sections of settings that several services have."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from chassis.settings.addresses import check_addresses, check_http_url, check_postgres_dsn, check_redis_url

MIN_SECRET_LENGTH = 32
MIN_DISTINCT_CHARACTERS = 8
PLACEHOLDERS = ("changeme", "change-me", "change_me", "placeholder", "replaceme", "replace-me", "replace_me")
DURATIONS: tuple[Any, ...] = (timedelta, timedelta | None)
NUMBER = re.compile(r"\d+(\.\d+)?")


class Durations(BaseModel):
    """A model whose durations may be numbers of seconds, besides pydantic's ISO 8601 format (`PT30S`)."""

    @model_validator(mode="before")
    @classmethod
    def _read_seconds(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        durations = {name for name, field in cls.model_fields.items() if field.annotation in DURATIONS}
        return {
            name: float(value) if name in durations and isinstance(value, str) and NUMBER.fullmatch(value) else value
            for name, value in values.items()
        }


class Section(Durations):
    """A nested group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSection(Section):
    """The service's schema in Postgres."""

    dsn: SecretStr = Field(
        description="Connection URL of the app role, which owns no tables. "
        "TLS: `?sslmode=verify-full&sslrootcert=FILE`."
    )
    owner_dsn: SecretStr | None = Field(
        None,
        description="Connection URL of the owner role; only `migrate` uses it. It must not lead through a pooler that "
        "pools transactions.",
    )
    pooling: Literal["session", "transaction"] = Field(
        "session",
        description="`transaction` behind a pooler that may give each transaction another connection, such as "
        "PgBouncer with `pool_mode = transaction`: settings are then made in each transaction, no statement stays "
        "prepared, and a single statement takes three round trips instead of one.",
    )
    pool_size: int = Field(
        8, ge=1, le=100, description="Maximum connections for transactions, and again as many for single statements."
    )

    @field_validator("dsn", "owner_dsn")
    @classmethod
    def _check_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_postgres_dsn(value.get_secret_value())
        return value


class RedisSection(Section):
    """Redis, for data that may be lost."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="URL of Redis: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://…?ssl_ca_certs=FILE` for "
        "TLS.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        check_redis_url(value)
        return value


class GrpcSection(Section):
    """The gRPC server."""

    bind: str = Field("127.0.0.1:9000", description="Address that the gRPC server listens on: `host:port`.")

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        check_addresses(value)
        return value


class PeersSection(Section):
    """gRPC addresses of other services. A service's subclass has one `peer_address` for each service that it calls."""

    @field_validator("*")
    @classmethod
    def _check_addresses(cls, value: str) -> str:
        check_addresses(value)
        return value


def peer_address(peer: str, default: str | None = None) -> Any:
    """Make the field of a `PeersSection` for the service called `peer`; required without a default."""
    description = f"gRPC address of {peer}: `host:port`, or several separated by commas."
    return Field(description=description) if default is None else Field(default, description=description)


class OpsSection(Section):
    """Health, readiness and metrics, on a separate port."""

    host: str = Field("127.0.0.1", description="Address that the ops server listens on.")
    port: int = Field(9090, ge=0, le=65535, description="Port of `/healthz`, `/readyz` and `/metrics`.")


class TelemetrySection(Section):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    otlp_endpoint: str | None = Field(
        None, description="OTLP/gRPC endpoint for traces, such as `http://collector:4317`; unset: no tracing."
    )
    sample_ratio: float = Field(
        0.05, ge=0, le=1, description="Share of traces that are sampled, unless the caller decided."
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            check_http_url(value)
        return value


class PrincipalSection(Section):
    """How services authenticate callers to one another."""

    secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        min_length=1,
        description="Secrets of at least 32 characters, separated by commas: the first signs, all verify.",
    )

    @field_validator("secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_secrets(value)

    @field_validator("secrets")
    @classmethod
    def _are_secret(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            refuse_placeholder(secret)
        return value


def split_secrets(value: object) -> object:
    """Split a variable with several secrets: separated by commas, or a JSON list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError("starts like a JSON list and is not one") from error
    return tuple(part.strip() for part in value.split(",") if part.strip())


def refuse_placeholder(secret: SecretStr) -> None:
    """Raise `ValueError` for a placeholder or a secret that can be guessed."""
    text = secret.get_secret_value()
    if any(word in text.lower() for word in PLACEHOLDERS):
        raise ValueError("is a placeholder; generate a secret")
    if len(set(text)) < MIN_DISTINCT_CHARACTERS:
        raise ValueError("can be guessed; generate a secret")
    if len(text) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters")
