"""How clients of Kafka encrypt and authenticate, from settings to aiokafka's options."""

from __future__ import annotations

import ssl
from typing import Any

from chassis.settings import KafkaSection


def client_options(section: KafkaSection) -> dict[str, Any]:
    """Return the options of every aiokafka client: brokers, encryption and authentication."""
    options: dict[str, Any] = {
        "bootstrap_servers": section.bootstrap,
        "security_protocol": section.security_protocol,
    }
    if section.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=section.ca_file)
    if section.sasl_password is not None:
        options |= {
            "sasl_mechanism": section.sasl_mechanism,
            "sasl_plain_username": section.sasl_username,
            "sasl_plain_password": section.sasl_password.get_secret_value(),
        }
    return options
