"""How clients of Kafka encrypt and authenticate, from settings to aiokafka's options, and why brokers refuse them."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from chassis.settings import KafkaConnection
from chassis.tls import accepts_tls

EXPLAIN_TIMEOUT_SECONDS: Final = 5.0


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


async def explain_refusal(connection: KafkaConnection) -> str | None:
    """Connect to the bootstrap brokers in turn; say which setting one refuses, or None.

    aiokafka (0.14) reports wrong passwords, untrusted certificates and absent brokers by one and the same error.
    """
    options = client_options(connection)
    del options["bootstrap_servers"]
    for address in connection.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(EXPLAIN_TIMEOUT_SECONDS):
                conn = await create_conn(host.strip("[]"), int(port), **options)
        except (KafkaError, OSError, TimeoutError, ValueError) as error:
            if (sentence := _sentence(connection, address.strip(), error)) is not None:
                return sentence
            if not connection.security_protocol.endswith("SSL") and await _accepts_tls(host, port):
                return f"{address.strip()} speaks TLS: set KAFKA__SECURITY_PROTOCOL to SSL or SASL_SSL"
        else:
            conn.close()
    return None


async def _accepts_tls(host: str, port: str) -> bool:
    return port.isdigit() and await accepts_tls(host.strip("[]"), int(port), EXPLAIN_TIMEOUT_SECONDS)


def _sentence(connection: KafkaConnection, address: str, error: Exception) -> str | None:
    match error:
        case UnsupportedSaslMechanismError():
            return f"the brokers do not offer {connection.sasl_mechanism}: set another KAFKA__SASL_MECHANISM"
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            return (
                "the brokers refuse the user or its password: check KAFKA__SASL_USERNAME and KAFKA__SASL_PASSWORD, and "
                f"that the user exists for {connection.sasl_mechanism} (KAFKA__SASL_MECHANISM)"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {address} is not trusted ({error.verify_message}): check KAFKA__CA_FILE and "
                "KAFKA__BOOTSTRAP"
            )
        case ssl.SSLError():
            return f"{address} does not speak TLS as expected ({error.reason}): check KAFKA__SECURITY_PROTOCOL"
    return None
