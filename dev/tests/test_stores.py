from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argosy_dev import kafka, postgres, privileges, redis, secrets
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home, read_pairs


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    folder = tmp_path / "cluster"
    folder.mkdir()
    return folder


def test_the_lock_of_a_server_whose_number_is_a_strangers_is_removed(cluster: Path) -> None:
    (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n")

    postgres._forget_dead_server(cluster)

    assert not (cluster / "postmaster.pid").exists()


def test_the_lock_stays_while_something_works_in_the_cluster(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_ORPHAN_SECONDS", 0.1)
    (cluster / "postmaster.pid").write_text("1\n")
    with subprocess.Popen([sys.executable, "-I", "-c", "input()"], cwd=cluster, stdin=subprocess.PIPE) as backend:
        postgres._forget_dead_server(cluster)

        assert (cluster / "postmaster.pid").exists()
        backend.kill()


def test_the_superuser_has_the_same_password_in_every_address(home: Home) -> None:
    assert postgres.dsn(home, 1) == postgres.dsn(home, 1)
    assert secrets.postgres_password(home) in postgres.dsn(home, 1)


def test_servers_listen_on_the_loopback_alone(home: Home) -> None:
    home.data("postgres").mkdir()

    assert "listen_addresses=127.0.0.1" in postgres.part(home, 1).command()
    assert "--bind 127.0.0.1" in " ".join(redis.part(home, 1).command())
    assert "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in kafka._properties(home.root, 1, 2)


def test_many_who_ask_first_get_one_secret(home: Home) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: secrets.principal_secret(home), range(32)))

    assert len(answers) == 1


def test_what_others_chose_is_kept_beside_what_was_made(home: Home) -> None:
    secret = secrets.principal_secret(home)

    secrets.keep(home, {"metering-dsn": "postgresql://metering_app@db/argosy"})

    assert read_pairs(home.secrets) == {"principal": secret, "metering-dsn": "postgresql://metering_app@db/argosy"}
    assert home.secrets.stat().st_mode & 0o777 == 0o600


def test_a_key_that_cannot_be_minted_is_a_sentence(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(Refusal, match="could not mint a key"):
        secrets.api_key(home, secrets.API_KEY)


def test_an_ordinary_user_runs_programs_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert privileges.unprivileged(tmp_path) == []


def test_root_becomes_somebody_else_in_a_namespace_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_namespaces_work", lambda: True)

    assert privileges.unprivileged(tmp_path) == ["unshare", "--user", "--map-user=1000"]


def test_where_namespaces_are_refused_the_data_goes_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Path] = []
    (tmp_path / "cluster").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "lchown", lambda path, *_: given.append(path))
    monkeypatch.setattr(privileges, "_namespaces_work", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    assert privileges.unprivileged(tmp_path)[0] == "setpriv"
    assert given == [tmp_path, tmp_path / "cluster"]


def test_root_leaves_the_data_of_an_ordinary_user_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "postgres"
    theirs.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "lchown", lambda *_: pytest.fail("the owner changed"))
    monkeypatch.setattr(privileges, "_namespaces_work", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((0o40700, 1, 1, 1, 1234, 1234, 0, 0, 0, 0)))

    assert privileges.unprivileged(theirs) == ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
