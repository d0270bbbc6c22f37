"""Groups of settings that several services have."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

SHORTEST_SECRET = 32  # characters
FEWEST_LETTERS = 8  # different ones, in a secret that is no row of one letter
PLACEHOLDERS = ("changeme", "change-me", "change_me", "placeholder", "replaceme", "replace-me", "replace_me")
DURATIONS: tuple[Any, ...] = (timedelta, timedelta | None)
NUMBER = re.compile(r"\d+(\.\d+)?")


class Durations(BaseModel):
    """A model whose durations may be written as seconds: pydantic alone would want `PT30S`, which is understood too."""

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
    """A group of settings, nested in a service's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSection(Section):
    """The service's schema in Postgres."""

    dsn: SecretStr = Field(description="Connection URL of the app role, which owns nothing.")
    owner_dsn: SecretStr | None = Field(None, description="Connection URL of the owner role; `migrate` alone uses it.")
    pool_size: int = Field(
        8, ge=1, le=100, description="Connections held at most for transactions, and as many for single statements."
    )


class RedisSection(Section):
    """Redis, for what may be lost."""

    url: str = Field("redis://127.0.0.1:6379/0", repr=False, description="URL of Redis, with database number.")


class KafkaSection(Section):
    """Kafka, for events between services."""

    bootstrap: str = Field("127.0.0.1:9092", description="Brokers to ask first: `host:port`, separated by commas.")
    group: str = Field(description="Consumer group; one per deployment.")


class GrpcSection(Section):
    """The gRPC server."""

    bind: str = Field("127.0.0.1:9000", description="Address that the gRPC server listens on: `host:port`.")


class OpsSection(Section):
    """Health, readiness and metrics, on a port of their own."""

    host: str = Field("127.0.0.1", description="Address that the ops server listens on.")
    port: int = Field(9090, ge=0, le=65535, description="Port of `/healthz`, `/readyz` and `/metrics`.")


class TelemetrySection(Section):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    otlp_endpoint: str | None = Field(
        None, description="OTLP/gRPC address that traces go to, such as `http://collector:4317`; none: no tracing."
    )
    sample_ratio: float = Field(0.05, ge=0, le=1, description="Share of traces that are kept, where no caller decided.")


class PrincipalSection(Section):
    """How services prove to one another who asks."""

    secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        min_length=1,
        description="Secrets of 32 characters at least, separated by commas: the first signs, all verify.",
    )

    @field_validator("secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError("begins like a list in JSON and is none") from error
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("secrets")
    @classmethod
    def _are_secret(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            refuse_placeholder(secret)
        return value


def refuse_placeholder(secret: SecretStr) -> None:
    """Raise ValueError for a secret that nobody chose, or that could be guessed."""
    text = secret.get_secret_value()
    if any(word in text.lower() for word in PLACEHOLDERS):
        raise ValueError("is a placeholder; make a secret of your own")
    if len(set(text)) < FEWEST_LETTERS:
        raise ValueError("can be guessed; make a secret of your own")
    if len(text) < SHORTEST_SECRET:
        raise ValueError(f"must have {SHORTEST_SECRET} characters at least")
