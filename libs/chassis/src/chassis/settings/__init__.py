"""Settings: read from the environment once, typed, frozen, described; a service with bad ones does not start.

Each service has a `Settings(ServiceSettings)` with a prefix of its own, nested by two underscores:
`METERING_POSTGRES__DSN`. `main` alone reads it, and passes values on.
"""

from chassis.settings.environment import EX_CONFIG, ServiceSettings, load, redacted
from chassis.settings.reference import Row, rows, table
from chassis.settings.sections import (
    GrpcSection,
    KafkaSection,
    OpsSection,
    PostgresSection,
    PrincipalSection,
    RedisSection,
    Section,
    TelemetrySection,
    refuse_placeholder,
)

__all__ = [
    "EX_CONFIG",
    "GrpcSection",
    "KafkaSection",
    "OpsSection",
    "PostgresSection",
    "PrincipalSection",
    "RedisSection",
    "Row",
    "Section",
    "ServiceSettings",
    "TelemetrySection",
    "load",
    "redacted",
    "refuse_placeholder",
    "rows",
    "table",
]
