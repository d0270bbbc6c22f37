"""Settings of the figures of queues."""

from __future__ import annotations

from datetime import timedelta

from chassis.settings import Section
from chassis.settings.addresses import check_addresses
from pydantic import Field, field_validator


class QueuesSection(Section):
    """The figures of queues, for metrics and autoscaling."""

    interval: timedelta = Field(
        timedelta(seconds=3),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=30),
        description="Between two reads of all queues from Postgres.",
    )
    scaler_bind: str | None = Field(
        None,
        description="Address that KEDA's external scaler is served on: `host:port`; unset: not served. Its calls are "
        "not authenticated: they read queue lengths, and nothing else is served there.",
    )

    @field_validator("scaler_bind")
    @classmethod
    def _check_bind(cls, value: str | None) -> str | None:
        if value is not None:
            check_addresses(value)
        return value
