"""Servers of a test's own, configured as managed services are: TLS, users, a pooler, cluster mode."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
from chassis.testing import free_port

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 20.0
UNPRIVILEGED_UID = 65_534


@contextmanager
def serving(command: Sequence[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block ends; it has started once `port` of the loopback accepts connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start: {log.read_text()[-1000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def accepts(port: int) -> bool:
    """Whether a port of the loopback accepts connections."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@cache
def redis_with_tls() -> str:
    """Return a redis-server that speaks TLS, or skip the test: the one that setup installs is built without."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder) / "redis-server"
        if program.is_file() and b"tls-cert-file" in program.read_bytes() and _links_openssl(program):
            return str(program)
    pytest.skip("no redis-server with TLS is installed: make store-programs (Debian: redis-server)")


def _links_openssl(program: Path) -> bool:
    done = subprocess.run(["ldd", str(program)], check=False, capture_output=True, text=True)
    return "libssl" in done.stdout


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[int]:
    """Run Redis without a plain port, or with the options `--port PORT`; yields the port."""
    # In cluster mode it also listens 10,000 ports higher.
    port = next(port for port in iter(free_port, 0) if port <= 55_535)
    listen = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
    words = [word.format(port=port) for word in options]
    with serving([redis_with_tls(), *listen, *words], port, folder / "redis.log"):
        yield port


def debian_postgres() -> Path:
    """Return the folder of a Postgres with TLS, or skip the test: the one that setup installs is built without."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no Postgres with TLS is installed: make store-programs (Debian: postgresql)")
    return found[-1].parent


@contextmanager
def postgres_with_tls(certificate: Path, key: Path, password: str) -> Iterator[int]:
    """Run a new Postgres that accepts TLS connections only; yields its port. Its superuser is `postgres`."""
    programs = debian_postgres()
    # Not in pytest's folder, whose parents are closed to the user that the server runs as.
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with serving(
            _postgres(programs, folder, port, (certificate, key), password), port, certificate.with_name("log")
        ):
            _wait_until_ready(folder / "cluster")
            yield port


def _wait_until_ready(cluster: Path) -> None:
    """Wait until the server takes statements: it accepts connections before it is through with its log."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while "ready" not in (cluster / "postmaster.pid").read_text().split():
        if time.monotonic() > deadline:
            raise RuntimeError("Postgres accepts connections and does not become ready")
        time.sleep(0.05)


def _postgres(programs: Path, folder: Path, port: int, files: tuple[Path, Path], password: str) -> list[str]:
    """Create the cluster and return the command of its server."""
    data = folder / "cluster"
    certificate, key = files
    (folder / "password").write_text(password)
    for file in (certificate, key):
        shutil.copy(file, folder)
    prefix = _unprivileged(folder)
    create = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", f"--pwfile={folder / 'password'}"]
    subprocess.run([*prefix, *create, "-A", "scram-sha-256", "--no-sync"], check=True, capture_output=True)
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": str(folder / certificate.name),
        "ssl_key_file": str(folder / key.name),
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [*prefix, str(programs / "postgres"), "-D", str(data), "-p", str(port), *words]


def _unprivileged(folder: Path) -> list[str]:
    """Return the prefix of a command that must not run as root, and give it the folder."""
    if os.geteuid() != 0:
        return []
    for path in (folder, *folder.iterdir()):
        os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    return ["setpriv", f"--reuid={UNPRIVILEGED_UID}", f"--regid={UNPRIVILEGED_UID}", "--clear-groups"]
