from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argosy_dev.errors import CliError
from argosy_dev.fleet import secrets
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from argosy_dev.parts import kafka, postgres, privileges
from argosy_dev.parts.postgres import postgres_spec
from argosy_dev.parts.redis import redis_spec


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    folder = tmp_path / "cluster"
    folder.mkdir()
    return folder


def test_a_lock_with_the_pid_of_another_process_is_removed(cluster: Path) -> None:
    (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n")

    postgres.remove_stale_lock(cluster)

    assert not (cluster / "postmaster.pid").exists()


def test_the_lock_stays_while_a_process_works_in_the_cluster(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_STALE_LOCK_TIMEOUT_SECONDS", 0.1)
    (cluster / "postmaster.pid").write_text("1\n")
    with subprocess.Popen([sys.executable, "-I", "-c", "input()"], cwd=cluster, stdin=subprocess.PIPE) as backend:
        postgres.remove_stale_lock(cluster)

        assert (cluster / "postmaster.pid").exists()
        backend.kill()


def test_the_superuser_has_the_same_password_in_every_address(paths: FleetPaths) -> None:
    assert postgres.dsn(paths, 1) == postgres.dsn(paths, 1)
    assert secrets.postgres_password(paths) in postgres.dsn(paths, 1)


def test_servers_listen_on_the_loopback_alone(paths: FleetPaths) -> None:
    paths.data("postgres").mkdir()

    assert "listen_addresses=127.0.0.1" in postgres_spec(paths, 1).command()
    assert "--bind 127.0.0.1" in " ".join(redis_spec(paths, 1).command())
    assert "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in kafka.server_properties(paths.root, 1, 2)


def test_concurrent_first_reads_get_one_secret(paths: FleetPaths) -> None:
    with ThreadPoolExecutor(8) as pool:
        values = set(pool.map(lambda _: secrets.principal_secret(paths), range(32)))

    assert len(values) == 1


def test_saved_values_are_added_to_generated_ones(paths: FleetPaths) -> None:
    secret = secrets.principal_secret(paths)

    secrets.save(paths, {"metering-dsn": "postgresql://metering_app@db/argosy"})

    assert read_pairs(paths.secrets) == {"principal": secret, "metering-dsn": "postgresql://metering_app@db/argosy"}
    assert paths.secrets.stat().st_mode & 0o777 == 0o600


def test_a_failed_mint_is_a_cli_error(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(CliError, match="could not mint a key"):
        secrets.api_key(paths, secrets.API_KEY)


def test_an_ordinary_user_runs_programs_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert privileges.unprivileged(tmp_path) == []


def test_root_is_dropped_by_a_user_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_has_user_namespaces", lambda: True)

    assert privileges.unprivileged(tmp_path) == ["unshare", "--user", "--map-user=1000"]


def test_without_namespaces_the_data_is_given_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[Path] = []
    (tmp_path / "cluster").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "lchown", lambda path, *_: changed.append(path))
    monkeypatch.setattr(privileges, "_has_user_namespaces", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    assert privileges.unprivileged(tmp_path)[0] == "setpriv"
    assert changed == [tmp_path, tmp_path / "cluster"]


def test_root_keeps_the_owner_of_an_ordinary_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "lchown", lambda *_: pytest.fail("the owner changed"))
    monkeypatch.setattr(privileges, "_has_user_namespaces", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((0o40700, 1, 1, 1, 1234, 1234, 0, 0, 0, 0)))

    assert privileges.unprivileged(folder) == ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
