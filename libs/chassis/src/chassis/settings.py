"""Settings: read from the environment once, typed, frozen, described; a service with bad ones does not start."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import timedelta
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

EX_CONFIG = 78  # sysexits.h: something is wrong with the configuration
SHORTEST_SECRET = 32  # characters
PLACEHOLDERS = ("changeme", "change-me", "change_me", "placeholder", "replace-me", "example", "todo", "xxxxxxxx")
CREDENTIALS = re.compile(r"(?<=://)[^@/\s]+(?=@)")

S = TypeVar("S", bound="ServiceSettings")


class Section(BaseModel):
    """A group of settings, nested in a service's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSection(Section):
    """The service's schema in Postgres."""

    dsn: SecretStr = Field(description="Connection URL of the app role, which owns nothing.")
    owner_dsn: SecretStr | None = Field(None, description="Connection URL of the owner role; `migrate` alone uses it.")
    pool_size: int = Field(8, ge=1, le=100, description="Connections that one process holds at most.")


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
            return json.loads(value)
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("secrets")
    @classmethod
    def _are_secret(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            refuse_placeholder(secret)
        return value


class ServiceSettings(BaseSettings):
    """What every service has. Each adds its own, under its own prefix; `main` alone reads them."""

    model_config = SettingsConfigDict(env_nested_delimiter="__", frozen=True)

    ops: OpsSection = Field(default_factory=OpsSection, description="Health, readiness and metrics.")
    telemetry: TelemetrySection = Field(default_factory=TelemetrySection, description="Logs and traces.")
    principal: PrincipalSection = Field(description="How services prove who asks.")
    drain: timedelta = Field(
        timedelta(seconds=25), description="Time to finish after SIGTERM; stays below the pod's grace period."
    )


def refuse_placeholder(secret: SecretStr) -> None:
    """Raise ValueError for a secret that nobody chose, or that could be guessed."""
    text = secret.get_secret_value()
    if any(word in text.lower() for word in PLACEHOLDERS):
        raise ValueError("is a placeholder; make a secret of your own")
    if len(text) < SHORTEST_SECRET:
        raise ValueError(f"must have {SHORTEST_SECRET} characters at least")


def load(cls: type[S]) -> S:
    """Read the settings, or print a sentence per fault on stderr and exit with 78. Values are never printed."""
    faults = unknown_names(cls)
    try:
        settings = cls()
    except ValidationError as error:
        faults += [_sentence(cls, fault["loc"], fault["msg"], fault["type"]) for fault in error.errors()]
    except SettingsError as error:
        faults.append(str(error))
    if faults:
        _refuse(faults)
    return settings


def unknown_names(cls: type[ServiceSettings]) -> list[str]:
    """A sentence for each variable that looks like a nested setting of this service, and is none: a typing error."""
    prefix = cls.model_config.get("env_prefix", "").upper()
    known = {name.upper() for name in cls.model_fields}
    return [
        f"{name}: there is no such setting."
        for name in sorted(os.environ)
        # Kubernetes sets variables such as METERING_PORT itself; none of them has two underscores in a row.
        if prefix and name.upper().startswith(prefix) and "__" in name
        if name.upper().removeprefix(prefix).split("__")[0] not in known
    ]


def redacted(settings: ServiceSettings) -> dict[str, Any]:
    """The settings as JSON values, without secrets and without the credentials in URLs."""
    dumped: dict[str, Any] = _without_credentials(settings.model_dump(mode="json"))
    return dumped


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_credentials(inner) for inner in value]
    return CREDENTIALS.sub("**********", value) if isinstance(value, str) else value


def _sentence(cls: type[ServiceSettings], place: tuple[int | str, ...], message: str, kind: str) -> str:
    name = cls.model_config.get("env_prefix", "") + "__".join(str(part) for part in place if not isinstance(part, int))
    if kind == "missing":
        message = "is required and not set"
    elif kind == "extra_forbidden":
        message = "there is no such setting"
    return f"{name.upper()}: {message.removeprefix('Value error, ')}."


def _refuse(faults: list[str]) -> NoReturn:
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    sys.exit(EX_CONFIG)
