"""Print the SQL that prepares a database for the services: roles with the passwords in the Secret, and their schemas.

    aws secretsmanager get-secret-value --secret-id argosy-staging-services --query SecretString --output text \
      | python -m scripts.database_roles | psql "$ADMIN_DSN"

It reads the Secret as a JSON object. It can be repeated; the passwords are set each time. The administrator needs no
superuser, only CREATEROLE and the right to create in the database, as managed stores give it.

A role has one password, so a rotation without an interruption takes a second login: an address names the role, such as
`gateway_app`, or a login that begins with it, such as `gateway_app_b`. It is made a member of the role, with all that
the role may do. `--retire` prints the SQL of the last step: logins that the Secret does not name cannot connect any
more. Connections that are open stay.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import orjson

SCHEMAS = {
    "gateway": "identity",
    "orchestrator": "orchestration",
    "metering": "metering",
    "retrieval": "retrieval",
}
_OTHER_LOGIN: Final = re.compile("_[a-z0-9]+")


def statements(secret: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements. Raises KeyError for a connection URL that the Secret lacks, ValueError for a wrong one."""
    yield "\\set ON_ERROR_STOP 1"
    yield "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;"
    for service, schema in SCHEMAS.items():
        owner, app = f"{service}_owner", f"{service}_app"
        logins = {role: _login(secret, key, role) for role, key in _roles_of(service)}
        for role, (login, password) in logins.items():
            yield from _role(role, login, password, schema)
        # Without it, only a superuser may make what belongs to another role.
        yield f"SELECT format('GRANT {owner} TO %I', current_user) WHERE NOT pg_has_role('{owner}', 'SET') \\gexec"
        if logins[owner][0] != owner:
            # What its migrations make belongs to the role, whose default privileges count.
            yield _in_database(f"ALTER ROLE {logins[owner][0]} IN DATABASE %I SET role TO {owner}")
        yield f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner};"
        yield f"GRANT USAGE ON SCHEMA {schema} TO {app};"
        rights = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT"
        yield f"{rights} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};"
        yield f"{rights} USAGE ON SEQUENCES TO {app};"


def retirements(secret: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements that shut out all other logins of the services. Raises as `statements` does."""
    yield "\\set ON_ERROR_STOP 1"
    for service in SCHEMAS:
        for role, key in _roles_of(service):
            login, _ = _login(secret, key, role)
            others = f"rolname ~ '^{role}(_[a-z0-9]+)?$' AND rolname <> '{login}' AND rolcanlogin"
            yield f"SELECT format('ALTER ROLE %I NOLOGIN PASSWORD NULL', rolname) FROM pg_roles WHERE {others} \\gexec"


def _roles_of(service: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the roles, each with its key of the Secret."""
    return (f"{service}_owner", f"{service}-owner-dsn"), (f"{service}_app", f"{service}-dsn")


def _login(secret: Mapping[str, str], key: str, role: str) -> tuple[str, str]:
    """Return user and password of an address."""
    url = urlsplit(secret[key])
    user = url.username or ""
    other = user.startswith(role) and _OTHER_LOGIN.fullmatch(user.removeprefix(role))
    if not (user == role or other) or not url.password:
        raise ValueError(f"{key} has to name the user {role}, or one such as {role}_b, and its password")
    return user, unquote(url.password)


def _role(role: str, login: str, password: str, schema: str) -> Iterator[str]:
    for name in dict.fromkeys((role, login)):
        absent = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')"
        yield f"SELECT 'CREATE ROLE {name}' WHERE {absent} \\gexec"
        yield _in_database(f"GRANT CONNECT ON DATABASE %I TO {name}")
        yield _in_database(f"ALTER ROLE {name} IN DATABASE %I SET search_path TO {schema}, public")
    if login != role:
        yield f"GRANT {role} TO {login};"
    yield f"ALTER ROLE {login} LOGIN PASSWORD {_literal(password)};"


def _in_database(statement: str) -> str:
    """The statement with the name of the database in the place of `%I`."""
    return f"SELECT format('{statement}', current_database()) \\gexec"


def _literal(text: str) -> str:
    if "\\" in text or "\0" in text:
        raise ValueError("a password has a backslash, which psql would read")
    return "'" + text.replace("'", "''") + "'"


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the SQL that prepares a database; the Secret is the input.")
    parser.add_argument("--retire", action="store_true", help="shut out the logins that the Secret does not name")
    make = retirements if parser.parse_args().retire else statements
    try:
        print("\n".join(make(orjson.loads(sys.stdin.buffer.read()))))
    except KeyError as error:
        print(f"database_roles: the Secret has no key {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"database_roles: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
