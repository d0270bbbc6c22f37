"""What nobody but this fleet may know, made once: the superuser's password, the principals' secret, two API keys."""

from __future__ import annotations

import fcntl
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from argosy_dev.refusals import Refusal
from argosy_dev.state import Home, read_pairs, write_pairs

API_KEY, ADMIN_KEY = "ARGOSY_API_KEY", "ARGOSY_ADMIN_KEY"
_COMMENT = (
    "Generated for this fleet alone. Delete .argosy to start over; a new password would lock you out of the data."
)


def postgres_password(home: Home) -> str:
    """Return the password of Postgres' superuser."""
    return _ensure(home, "postgres", lambda: secrets.token_urlsafe(24))


def principal_secret(home: Home) -> str:
    """Return the secret with which the gateway signs who asks, and the other services verify it."""
    return _ensure(home, "principal", lambda: secrets.token_urlsafe(48))


def api_key(home: Home, name: str) -> str:
    """Return the key `name`, minted by the gateway the first time."""
    return _ensure(home, name, _mint)


def known_keys(home: Home) -> dict[str, str]:
    """Return the API keys that were minted already."""
    return {name: value for name, value in read_pairs(home.secrets).items() if name in (API_KEY, ADMIN_KEY)}


def keep(home: Home, values: Mapping[str, str]) -> None:
    """Remember values that others chose, such as the addresses of the services' schemas."""
    with _turn(home):
        pairs = read_pairs(home.secrets)
        if not values.items() <= pairs.items():
            write_pairs(home.secrets, {**pairs, **values}, comment=_COMMENT)


def write_compose_env(home: Home) -> Path:
    """Write the variables that compose.yaml asks for, and return the file; an existing one stays as it is."""
    path = home.root / "compose.env"
    if not path.exists():
        values = {"ARGOSY_PASSWORD": secrets.token_hex(24), "ARGOSY_PRINCIPAL_SECRET": secrets.token_hex(48)}
        write_pairs(path, values | {API_KEY: _mint(), ADMIN_KEY: _mint()})
    return path


def _ensure(home: Home, name: str, make: Callable[[], str]) -> str:
    """Return a secret, made at its first use."""
    if value := read_pairs(home.secrets).get(name):
        return value
    with _turn(home):
        pairs = read_pairs(home.secrets)
        if name not in pairs:
            pairs[name] = make()
            write_pairs(home.secrets, pairs, comment=_COMMENT)
        return pairs[name]


@contextmanager
def _turn(home: Home) -> Iterator[None]:
    """Let one process or thread change the file at a time, so that all see the same secrets."""
    with (home.root / "secrets.lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _mint() -> str:
    done = subprocess.run([sys.executable, "-m", "gateway", "mint-key"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Refusal(f"The gateway could not mint a key: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()
