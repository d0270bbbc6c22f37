"""The secrets of a fleet, generated once: the superuser's password, the signing secrets, two API keys."""

import fcntl
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths, read_pairs, write_pairs

API_KEY, ADMIN_KEY = "ARGOSY_API_KEY", "ARGOSY_ADMIN_KEY"
_COMMENT = (
    "Generated for this fleet alone. Delete .argosy to start over; a new password would lock you out of the data."
)


def postgres_password(paths: FleetPaths) -> str:
    return _get_or_create(paths, "postgres", lambda: secrets.token_urlsafe(24))


def principal_secret(paths: FleetPaths) -> str:
    """Return the secret with which the gateway signs the caller's identity and the services verify it."""
    return _get_or_create(paths, "principal", lambda: secrets.token_urlsafe(48))


def event_signing_keys(paths: FleetPaths) -> str:
    """Return the key with which the services sign their events and verify those of others, as `id:secret`."""
    return _get_or_create(paths, "event-signing-keys", lambda: f"dev-1:{secrets.token_urlsafe(48)}")


def webhook_secret_key(paths: FleetPaths) -> str:
    """Return the key with which the orchestrator encrypts the secrets of webhook endpoints."""
    return _get_or_create(paths, "webhook-secret-key", lambda: secrets.token_urlsafe(48))


def api_key(paths: FleetPaths, name: str) -> str:
    """Return the key `name`; the gateway's command line mints it the first time."""
    return _get_or_create(paths, name, _mint)


def minted_keys(paths: FleetPaths) -> dict[str, str]:
    """Return the API keys that exist already."""
    return {name: value for name, value in read_pairs(paths.secrets).items() if name in (API_KEY, ADMIN_KEY)}


def save(paths: FleetPaths, values: Mapping[str, str]) -> None:
    """Save values from elsewhere, such as the addresses of the services' schemas."""
    with _locked(paths):
        pairs = read_pairs(paths.secrets)
        if not values.items() <= pairs.items():
            write_pairs(paths.secrets, {**pairs, **values}, comment=_COMMENT)


def credential_key(paths: FleetPaths) -> str:
    """Return the key that wraps the data keys of upstreams' credentials."""
    return _get_or_create(paths, "credential-key", lambda: secrets.token_urlsafe(48))


def write_compose_env(paths: FleetPaths) -> Path:
    """Write the variables that compose.yaml needs, those that the file has not yet, and return its path."""
    path = paths.root / "compose.env"
    values = read_pairs(path)
    create = {
        "ARGOSY_PASSWORD": lambda: secrets.token_hex(24),
        "ARGOSY_PRINCIPAL_SECRET": lambda: secrets.token_hex(48),
        "ARGOSY_SIGNING_KEYS": lambda: f"compose-1:{secrets.token_hex(48)}",
        "ARGOSY_WEBHOOK_SECRET_KEYS": lambda: secrets.token_hex(48),
        "ARGOSY_CREDENTIAL_KEYS": lambda: secrets.token_hex(48),
        API_KEY: _mint,
        ADMIN_KEY: _mint,
    }
    if missing := create.keys() - values.keys():
        write_pairs(path, values | {name: create[name]() for name in sorted(missing)})
    return path


def _get_or_create(paths: FleetPaths, name: str, create: Callable[[], str]) -> str:
    if value := read_pairs(paths.secrets).get(name):
        return value
    with _locked(paths):
        pairs = read_pairs(paths.secrets)
        if name not in pairs:
            pairs[name] = create()
            write_pairs(paths.secrets, pairs, comment=_COMMENT)
        return pairs[name]


@contextmanager
def _locked(paths: FleetPaths) -> Iterator[None]:
    """Serialize changes by threads and processes, so that all read the same secrets."""
    with paths.open_lock("secrets") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _mint() -> str:
    done = subprocess.run([sys.executable, "-m", "gateway", "mint-key"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise CliError(f"The gateway could not mint a key: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()
