"""PgBouncer in front of the Postgres of ARGOSY_POSTGRES_DSN, for the roles that `scratch_database` makes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from chassis.testing import free_port
from chassis.testing.postgres import role_password, superuser_dsn

MISSING = "PgBouncer is not installed (Debian: apt-get install pgbouncer)"
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={postgres}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {pool_mode}
default_pool_size = {pool_size}
server_round_robin = 1
max_client_conn = 500
ignore_startup_parameters = {ignored}
"""


class MissingPgBouncer(Exception):
    """The program is not installed."""


def program() -> str | None:
    """Return the path of PgBouncer; Debian's is not in the PATH of ordinary users."""
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


@contextmanager
def pgbouncer(
    pool_mode: str = "transaction",
    ignored: str = "",
    port: int | None = None,
    pool_size: int = 3,
    *,
    names: Sequence[str] = ("chassis_test",),
) -> Iterator[int]:
    """Run it on a port of the loopback, which it yields. Raises `MissingPgBouncer`.

    Its few connections are used in turn, so that what a session would keep is lost at once. `ignored` are start-up
    parameters that it drops instead of refusing them. `names` are those of the scratch databases' roles.
    """
    if (found := program()) is None:
        raise MissingPgBouncer(MISSING)
    dsn, port = superuser_dsn(), port or free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = CONFIGURATION.format(
            postgres=urlsplit(dsn).port or 5432,
            port=port,
            folder=folder,
            pool_mode=pool_mode,
            ignored=ignored,
            pool_size=pool_size,
        )
        (folder / "pgbouncer.ini").write_text(text)
        password = role_password(dsn)
        roles = [f"{name}_{role}" for name in names for role in ("app", "owner")]
        (folder / "users.txt").write_text("".join(f'"{role}" "{password}"\n' for role in roles))
        command = [found, str(folder / "pgbouncer.ini")]
        if os.geteuid() == 0:  # it refuses root
            for path in (folder, *folder.iterdir()):
                os.chown(path, 65_534, 65_534)
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, port, folder / "log")
            yield port
        finally:
            process.kill()
            process.wait(STOP_TIMEOUT_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"PgBouncer does not answer: {log.read_text()[-500:]}")
