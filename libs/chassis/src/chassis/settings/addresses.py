"""Addresses in settings are checked at start. Messages never quote an address, because it may contain a password."""

from __future__ import annotations

import re
import ssl
from urllib.parse import SplitResult, parse_qsl, urlsplit

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# asyncpg passes every other parameter to Postgres as a start-up parameter, which refuses the connection.
POSTGRES_PARAMETERS = frozenset(
    [
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "options",
        "search_path",
        "application_name",
    ]
)
REDIS_PARAMETERS = frozenset(
    ["db", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"]
)
CERT_REQUIREMENTS = ("none", "optional", "required")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\]", re.ASCII)
MAX_PORT = 65535


def check_postgres_dsn(dsn: str) -> None:
    """Raise `ValueError` for a URL that asyncpg would refuse, or read differently from what is meant."""
    parts = _split(dsn, ("postgresql", "postgres"))
    for host in parts.netloc.rpartition("@")[2].split(","):
        if host:
            _check_host(host)
    for name, value in _parameters(parts, POSTGRES_PARAMETERS):
        if name == "sslmode" and value not in SSL_MODES:
            raise ValueError(f"its sslmode must be one of {', '.join(SSL_MODES)}")
    _check_verification(dict(parse_qsl(parts.query)))


def _check_verification(parameters: dict[str, str]) -> None:
    mode, file = parameters.get("sslmode", ""), parameters.get("sslrootcert")
    if file is not None:
        _check_certificates("sslrootcert", file)
    elif mode.startswith("verify-"):
        # Without it asyncpg reads a file in the home directory, which a container does not have.
        raise ValueError(f"its sslmode {mode} needs sslrootcert, the file with the certificates to verify against")


def check_redis_url(url: str) -> None:
    """Raise `ValueError` for a URL that redis-py would refuse, or read differently from what is meant."""
    parts = _split(url, ("redis", "rediss", "unix"))
    database = parts.path.removeprefix("/")
    if parts.scheme == "unix":
        if not database:
            raise ValueError("names no socket: `unix:///path?db=0`")
    else:
        _check_host(parts.netloc.rpartition("@")[2])
        if database and not _is_digits(database):
            raise ValueError("the part after the host must be the number of a database, as in `/0`")
    for name, value in _parameters(parts, REDIS_PARAMETERS):
        if name == "db" and not _is_digits(value):
            raise ValueError("its parameter `db` must be the number of a database")
        if name == "ssl_cert_reqs" and value not in CERT_REQUIREMENTS:
            raise ValueError(f"its ssl_cert_reqs must be one of {', '.join(CERT_REQUIREMENTS)}")
        if name.startswith("ssl_") and parts.scheme != "rediss":
            raise ValueError(f"its {name} has no effect without TLS: the URL must start with rediss://")
        if name == "ssl_ca_certs":
            _check_certificates(name, value)


def check_http_url(url: str) -> None:
    """Raise `ValueError` unless it is `http://host` or `https://host`, with an optional port and path."""
    parts = _split(url, ("http", "https"))
    _check_host(parts.netloc.rpartition("@")[2])


def check_addresses(text: str) -> None:
    """Raise `ValueError` unless it is `host:port`, or several separated by commas."""
    for address in text.split(","):
        _check_host(address.strip(), port_required=True)


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("must not contain white space or control characters")
    if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL: brackets stand around an IPv6 address only; write %5B and %5D") from None
    # Behind a raw / ? or # the parser sees a path, a query or a fragment, so the @ before the host is in that part.
    if "#" in url or "@" in parts.path + parts.query:
        raise ValueError("has a raw `/`, `?` or `#` in its user or password; write %2F, %3F or %23")
    if BAD_ESCAPE.search(parts.netloc):
        raise ValueError("has a `%` that two hexadecimal digits must follow; a raw one is written %25")
    return parts


def _check_host(address: str, *, port_required: bool = False) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or address.endswith("]"):
        host, separator, port = address, "", ""
    if not HOST.fullmatch(host):
        raise ValueError("must have a host name: `host:port`")
    if (separator or port_required) and not (_is_digits(port) and int(port) <= MAX_PORT):
        raise ValueError(f"must have a port between 0 and {MAX_PORT}: `host:port`")


def _parameters(parts: SplitResult, known: frozenset[str]) -> list[tuple[str, str]]:
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    for name, _ in parameters:
        if name not in known:
            # A parameter's name is no secret: behind a raw ? in a password stands an @, which was refused before.
            raise ValueError(f"has an unknown parameter `{name}`; known are {', '.join(sorted(known))}")
    return parameters


def _check_certificates(parameter: str, file: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # also ssl.SSLError
        raise ValueError(f"its {parameter} has no certificates that can be read ({error.strerror or error})") from error


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
