from __future__ import annotations

import os
from pathlib import Path

from argosy_dev.fleet.paths import REPO_ROOT, FleetPaths, read_pairs, write_pairs, write_text


def test_state_and_assets_are_in_the_repository_unless_the_environment_names_folders(tmp_path: Path) -> None:
    assert FleetPaths.from_environment({}) == FleetPaths(REPO_ROOT / ".argosy", REPO_ROOT / ".argosy")

    elsewhere = FleetPaths.from_environment({"ARGOSY_HOME": str(tmp_path)})

    assert elsewhere == FleetPaths(tmp_path, REPO_ROOT / ".argosy")


def test_the_repository_root_holds_the_workspace() -> None:
    assert (REPO_ROOT / "dev" / "pyproject.toml").exists()


def test_pairs_survive_a_round_trip_with_equals_signs_in_their_values(tmp_path: Path) -> None:
    pairs = {"ARGOSY_POSTGRES_DSN": "postgresql://a:b=c@127.0.0.1:1/argosy", "ARGOSY_API_KEY": "key"}

    write_pairs(tmp_path / "env", pairs, comment="addresses")

    assert read_pairs(tmp_path / "env") == pairs


def test_comments_empty_lines_and_outer_spaces_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "ports").write_text("# gateway=1\n\n  gateway = 8080 \nnonsense\n")

    assert read_pairs(tmp_path / "ports") == {"gateway": "8080"}


def test_a_missing_file_has_no_pairs(tmp_path: Path) -> None:
    assert read_pairs(tmp_path / "none") == {}


def test_pairs_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    write_pairs(tmp_path / "secrets", {"a": "b"})

    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o600


def test_writing_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_text(tmp_path / "env", "old")
    write_text(tmp_path / "env", "new")

    assert [path.name for path in tmp_path.iterdir()] == ["env"]
    assert (tmp_path / "env").read_text() == "new"


def test_an_older_fleet_is_closed_to_others(tmp_path: Path) -> None:
    paths = FleetPaths(tmp_path / "state", tmp_path)
    paths.logs.mkdir(parents=True)
    paths.data("redis").mkdir(parents=True)
    files = (paths.log("gateway"), paths.logs / "gateway.log.1", paths.ports, paths.fleet)
    for path in files:
        path.write_text("a prompt")
        path.chmod(0o644)

    paths.create()

    assert [path.stat().st_mode & 0o777 for path in (paths.root, paths.logs, paths.root / "data")] == [0o700] * 3
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 4


def test_a_folder_that_another_user_passes_through_stays_passable(tmp_path: Path) -> None:
    paths = FleetPaths(tmp_path / "state", tmp_path)
    paths.create()
    paths.root.chmod(0o711)

    paths.create()

    assert paths.root.stat().st_mode & 0o777 == 0o711


def test_locks_and_logs_are_readable_by_their_owner_alone(paths: FleetPaths) -> None:
    os.close(paths.open_log("redis"))
    paths.open_lock("up").close()

    assert paths.log("redis").stat().st_mode & 0o777 == 0o600
    assert (paths.root / "up.lock").stat().st_mode & 0o777 == 0o600
