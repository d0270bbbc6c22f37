"""Settings of webhooks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from chassis.settings import Section
from chassis.settings.sections import refuse_placeholder, split_secrets
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from orchestrator.webhooks.targets import TargetPolicy, parse_allowed

Interval = Annotated[timedelta, Field(gt=timedelta(0))]

# As the specification suggests; in all three days. The first attempt is made at once.
WEBHOOK_SCHEDULE = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)


class WebhooksSection(Section):
    """Webhooks: where they may go, when they are tried again."""

    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys with which the secrets of endpoints are encrypted, of at least 32 characters, separated by "
        "commas: the first encrypts, all decrypt. Unset: no webhooks.",
    )
    schedule: Annotated[tuple[timedelta, ...], NoDecode] = Field(
        WEBHOOK_SCHEDULE,
        min_length=1,
        max_length=50,
        description="Steps between the attempts of a delivery, in seconds, separated by commas; each attempt comes at "
        "a random point of its step.",
    )
    timeout: Interval = Field(
        timedelta(seconds=15), le=timedelta(minutes=1), description="Of one attempt, from DNS to the end of the answer."
    )
    in_flight: int = Field(256, ge=2, le=4_096, description="Attempts in progress, in one process.")
    in_flight_per_endpoint: int = Field(8, ge=1, description="Of these, for one endpoint that answers in time.")
    disable_after: Interval = Field(
        timedelta(days=5), description="An endpoint is disabled when it has only failed for so long."
    )
    disable_min_failures: int = Field(12, ge=1, description="… and at least so often.")
    retention: Interval = Field(timedelta(days=30), description="How long finished deliveries are kept.")
    max_endpoints: int = Field(20, ge=1, le=1_000, description="Endpoints of one tenant.")
    allow_http: bool = Field(default=False, description="Whether endpoints without TLS are allowed.")
    ports: Annotated[tuple[int, ...], NoDecode] = Field(
        (443, 8443), description="Ports of endpoints, separated by commas; `*` for all."
    )
    allowed_targets: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Private networks (`10.1.0.0/16`) and host names that endpoints may be at, separated by commas. "
        "Every tenant can send requests there, and read the beginning of the answers.",
    )
    ca_file: Path | None = Field(
        None, description="Certificates that endpoints' are verified against; unset: those of the system."
    )
    poll_interval: Interval = Field(timedelta(seconds=1), description="Between two looks for due deliveries.")

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return split_secrets(value)

    @field_validator("secret_keys")
    @classmethod
    def _are_secret(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            refuse_placeholder(secret)
        return value

    @field_validator("schedule", "ports", "allowed_targets", mode="before")
    @classmethod
    def _split(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if info.field_name == "schedule":
            return [float(part) for part in parts]
        return [] if info.field_name == "ports" and parts == ["*"] else parts

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        if min(value) < timedelta(0):
            raise ValueError("a step of the schedule is not negative")
        return value

    @field_validator("allowed_targets")
    @classmethod
    def _check_targets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_allowed(value)
        return value

    def target_policy(self) -> TargetPolicy:
        networks, hosts = parse_allowed(self.allowed_targets)
        return TargetPolicy(self.allow_http, frozenset(self.ports), networks, hosts)
