"""Print the SQL that prepares a database for the services: roles with the passwords in the Secret, and their schemas.

    aws secretsmanager get-secret-value --secret-id argosy-staging-services --query SecretString --output text \
      | python -m scripts.database_roles | psql "$ADMIN_DSN"

It reads the Secret as a JSON object. It can be repeated; the passwords are set each time. The administrator needs no
superuser, only CREATEROLE and the right to create in the database, as managed stores give it.
"""

import sys
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

import orjson

SCHEMAS = {
    "gateway": "identity",
    "orchestrator": "orchestration",
    "metering": "metering",
    "retrieval": "retrieval",
}


def statements(secret: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements. Raises KeyError for a connection URL that the Secret lacks."""
    yield "\\set ON_ERROR_STOP 1"
    yield "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;"
    for service, schema in SCHEMAS.items():
        owner, app = f"{service}_owner", f"{service}_app"
        for role, key in ((owner, f"{service}-owner-dsn"), (app, f"{service}-dsn")):
            url = urlsplit(secret[key])
            if url.username != role or not url.password:
                raise ValueError(f"{key} has to name the user {role}, and its password")
            absent = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
            yield f"SELECT 'CREATE ROLE {role}' WHERE {absent} \\gexec"
            yield f"ALTER ROLE {role} LOGIN PASSWORD {_literal(unquote(url.password))};"
            yield f"SELECT format('GRANT CONNECT ON DATABASE %I TO {role}', current_database()) \\gexec"
            search_path = f"SET search_path TO {schema}, public"
            yield f"SELECT format('ALTER ROLE {role} IN DATABASE %I {search_path}', current_database()) \\gexec"
        # Without it, only a superuser may make what belongs to another role.
        yield f"SELECT format('GRANT {owner} TO %I', current_user) WHERE NOT pg_has_role('{owner}', 'SET') \\gexec"
        yield f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner};"
        yield f"GRANT USAGE ON SCHEMA {schema} TO {app};"
        rights = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT"
        yield f"{rights} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};"
        yield f"{rights} USAGE ON SEQUENCES TO {app};"


def _literal(text: str) -> str:
    if "\\" in text or "\0" in text:
        raise ValueError("a password has a backslash, which psql would read")
    return "'" + text.replace("'", "''") + "'"


def main() -> int:
    try:
        print("\n".join(statements(orjson.loads(sys.stdin.buffer.read()))))
    except KeyError as error:
        print(f"database_roles: the Secret has no key {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"database_roles: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
