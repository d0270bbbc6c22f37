"""The SQL that prepares a database has the roles and passwords of the Secret; a Secret that does not fit is refused."""

import pytest

from scripts.database_roles import SCHEMAS, retirements, statements

SECRET = {
    key: f"postgresql://{service}_{role}:it%27s-{role}@postgres:5432/argosy"
    for service in SCHEMAS
    for role, key in (("app", f"{service}-dsn"), ("owner", f"{service}-owner-dsn"))
}

ROTATED = SECRET | {
    "metering-dsn": "postgresql://metering_app_b:new@postgres:5432/argosy",
    "metering-owner-dsn": "postgresql://metering_owner_b:newer@postgres:5432/argosy",
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
        (
            "postgresql://admin:secret@postgres/argosy",
            "the user metering_app, or one such as metering_app_b",
        ),
        ("postgresql://metering_appendix:secret@postgres/argosy", "has to name the user metering_app"),
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


def test_a_second_login_is_a_member_of_its_role_and_leaves_the_first_as_it_is() -> None:
    sql = "\n".join(statements(ROTATED))
    assert "GRANT metering_app TO metering_app_b;" in sql
    assert "ALTER ROLE metering_app_b LOGIN PASSWORD 'new';" in sql
    assert "ALTER ROLE metering_app LOGIN" not in sql
    assert "ALTER ROLE metering_owner_b IN DATABASE %I SET role TO metering_owner" in sql
    assert "SCHEMA metering GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO metering_app;" in sql


def test_the_last_step_shuts_out_all_logins_but_those_of_the_secret() -> None:
    sql = list(retirements(ROTATED))
    assert len(sql) == 9
    assert "rolname ~ '^metering_app(_[a-z0-9]+)?$' AND rolname <> 'metering_app_b'" in sql[6]
