"""Settings: read from the environment once, typed, frozen, described. Invalid settings keep a service from starting.

Each service has a `Settings(ServiceSettings)` with its own prefix, nested by two underscores:
`METERING_POSTGRES__DSN`. Only `main` reads it and passes values on.
"""

from chassis.settings.addresses import check_addresses, check_http_url
from chassis.settings.environment import EX_CONFIG, ServiceSettings, load, redacted
from chassis.settings.kafka import KafkaConnection, KafkaSection
from chassis.settings.reference import Row, rows, table
from chassis.settings.sections import (
    GrpcSection,
    OpsSection,
    PeersSection,
    PostgresSection,
    PrincipalSection,
    RedisSection,
    Section,
    TelemetrySection,
    peer_address,
    refuse_placeholder,
)

__all__ = [
    "EX_CONFIG",
    "GrpcSection",
    "KafkaConnection",
    "KafkaSection",
    "OpsSection",
    "PeersSection",
    "PostgresSection",
    "PrincipalSection",
    "RedisSection",
    "Row",
    "Section",
    "ServiceSettings",
    "TelemetrySection",
    "check_addresses",
    "check_http_url",
    "load",
    "peer_address",
    "redacted",
    "refuse_placeholder",
    "rows",
    "table",
]
