"""How the fleet reaches a Kafka of the user's own: variables of the environment, for services, steps and tools."""

from collections.abc import Mapping

from chassis.settings import KafkaConnection
from pydantic import ValidationError

from argosy_dev.errors import CliError

BOOTSTRAP = "ARGOSY_KAFKA_BOOTSTRAP"
VARIABLES = {
    "ARGOSY_KAFKA_SECURITY_PROTOCOL": "security_protocol",
    "ARGOSY_KAFKA_SASL_MECHANISM": "sasl_mechanism",
    "ARGOSY_KAFKA_SASL_USERNAME": "sasl_username",
    "ARGOSY_KAFKA_SASL_PASSWORD": "sasl_password",
    "ARGOSY_KAFKA_CA_FILE": "ca_file",
}
"""The variables beside the address, and the settings that they become."""

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


def connection(environment: Mapping[str, str]) -> KafkaConnection:
    """Return the settings in the environment. Raises `CliError` that names a variable, and never its value."""
    values = {setting: environment[name] for name, setting in VARIABLES.items() if environment.get(name)}
    try:
        return KafkaConnection.model_validate({"bootstrap": environment[BOOTSTRAP], **values})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise CliError(f"ARGOSY_KAFKA_{str(first['loc'][0]).upper()}: {message}.") from None


def service_settings(access: Mapping[str, str]) -> dict[str, str]:
    """Return the variables as settings of a service, without its prefix."""
    return {f"KAFKA__{setting.upper()}": access[name] for name, setting in VARIABLES.items() if name in access}


def client_properties(kafka: KafkaConnection) -> str:
    """Return the configuration of Kafka's own tools."""
    properties: dict[str, str] = {"security.protocol": kafka.security_protocol}
    if kafka.ca_file is not None:
        properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(kafka.ca_file)}
    if kafka.sasl_mechanism is not None and kafka.sasl_password is not None:
        user, password = _quoted(kafka.sasl_username or ""), _quoted(kafka.sasl_password.get_secret_value())
        properties |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.jaas.config": f"{_LOGIN_MODULES[kafka.sasl_mechanism]} required username={user} password={password};",
        }
    # A backslash escapes in a file of properties, as it does in the strings of JAAS.
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in escaped)
