"""How clients of Kafka encrypt and authenticate, from settings to aiokafka's options."""

from __future__ import annotations

import ssl
from typing import Any

from chassis.settings import KafkaConnection


def client_options(connection: KafkaConnection) -> dict[str, Any]:
    """Return the options of every aiokafka client: brokers, encryption and authentication."""
    options: dict[str, Any] = {
        "bootstrap_servers": connection.bootstrap,
        "security_protocol": connection.security_protocol,
    }
    if connection.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=connection.ca_file)
    if connection.sasl_password is not None:
        options |= {
            "sasl_mechanism": connection.sasl_mechanism,
            "sasl_plain_username": connection.sasl_username,
            "sasl_plain_password": connection.sasl_password.get_secret_value(),
        }
    return options
