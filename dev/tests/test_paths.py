from __future__ import annotations

from pathlib import Path

from argosy_dev.state import CLONE, Home, read_pairs, write_pairs, write_text


def test_state_and_assets_lie_in_the_clone_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    assert Home.of_environment({}) == Home(CLONE / ".argosy", CLONE / ".argosy")

    elsewhere = Home.of_environment({"ARGOSY_HOME": str(tmp_path)})

    assert elsewhere == Home(tmp_path, CLONE / ".argosy")


def test_the_clone_is_the_folder_that_holds_the_workspace() -> None:
    assert (CLONE / "dev" / "pyproject.toml").exists()


def test_pairs_survive_a_round_trip_with_equals_signs_in_their_values(tmp_path: Path) -> None:
    pairs = {"ARGOSY_POSTGRES_DSN": "postgresql://a:b=c@127.0.0.1:1/argosy", "ARGOSY_API_KEY": "key"}

    write_pairs(tmp_path / "env", pairs, comment="addresses")

    assert read_pairs(tmp_path / "env") == pairs


def test_comments_and_empty_lines_and_spaces_around_are_no_values(tmp_path: Path) -> None:
    (tmp_path / "ports").write_text("# gateway=1\n\n  gateway = 8080 \nnonsense\n")

    assert read_pairs(tmp_path / "ports") == {"gateway": "8080"}


def test_a_missing_file_has_no_pairs(tmp_path: Path) -> None:
    assert read_pairs(tmp_path / "none") == {}


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    write_pairs(tmp_path / "secrets", {"a": "b"})

    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o600


def test_writing_leaves_no_other_file_behind(tmp_path: Path) -> None:
    write_text(tmp_path / "env", "old")
    write_text(tmp_path / "env", "new")

    assert [path.name for path in tmp_path.iterdir()] == ["env"]
    assert (tmp_path / "env").read_text() == "new"
