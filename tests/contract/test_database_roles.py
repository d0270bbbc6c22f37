"""The SQL that prepares a database has the roles and passwords of the Secret; a Secret that does not fit is refused."""

import pytest

from scripts.database_roles import SCHEMAS, statements

SECRET = {
    key: f"postgresql://{service}_{role}:it%27s-{role}@postgres:5432/argosy"
    for service in SCHEMAS
    for role, key in (("app", f"{service}-dsn"), ("owner", f"{service}-owner-dsn"))
}


def test_each_role_has_the_password_of_its_address() -> None:
    sql = "\n".join(statements(SECRET))
    assert sql.count("LOGIN PASSWORD") == 8
    assert "ALTER ROLE metering_owner LOGIN PASSWORD 'it''s-owner';" in sql
    assert "CREATE SCHEMA IF NOT EXISTS orchestration AUTHORIZATION orchestrator_owner;" in sql
    assert "superuser" not in sql.lower()
    assert "bypassrls" not in sql.lower()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://admin:secret@postgres/argosy", "has to name the user metering_app"),
        ("postgresql://metering_app@postgres/argosy", "and its password"),
        ("postgresql://metering_app:a%5Cb@postgres/argosy", "backslash"),
    ],
)
def test_an_address_that_does_not_fit_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list(statements({**SECRET, "metering-dsn": url}))


def test_a_missing_address_is_named() -> None:
    with pytest.raises(KeyError, match="retrieval-owner-dsn"):
        list(statements({key: url for key, url in SECRET.items() if key != "retrieval-owner-dsn"}))
