"""`migrate` and `bootstrap`, as operators call them."""

import asyncio
import os
import subprocess
import sys

import pytest
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from gateway.auth.api_key import mint_key


def run(section: PostgresSection, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the gateway's command line."""
    assert section.owner_dsn is not None
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_POSTGRES__DSN": section.dsn.get_secret_value(),
        "GATEWAY_POSTGRES__POOLING": section.pooling,
        "GATEWAY_POSTGRES__OWNER_DSN": section.owner_dsn.get_secret_value(),
        "GATEWAY_PRINCIPAL__SECRETS": "a-secret-for-tests-and-nothing-but-tests",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_migrate_and_bootstrap_are_idempotent() -> None:
    with asyncio.Runner() as runner:
        scratch = scratch_database(None, "identity", "gateway")
        section = runner.run(scratch.__aenter__())
        try:
            migrated = run(section, "migrate")
            assert "0001_identity.sql" in migrated.stdout, migrated.stderr
            assert "nothing to apply" in run(section, "migrate").stdout
            keys = {"ARGOSY_ADMIN_KEY": mint_key("dev")[1], "ARGOSY_API_KEY": mint_key("dev")[1]}

            first, second = run(section, "bootstrap", **keys), run(section, "bootstrap", **keys)

            assert (first.returncode, second.returncode) == (0, 0), first.stderr
            assert first.stdout == second.stdout
            assert "tenant platform is ten_" in first.stdout
            assert "tenant demo is ten_" in first.stdout
            assert keys["ARGOSY_API_KEY"] not in first.stdout + first.stderr
        finally:
            runner.run(scratch.__aexit__(None, None, None))


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "ARGOSY_ADMIN_KEY is not set"),
        ({"ARGOSY_ADMIN_KEY": "argosy_dev_x"}, "ARGOSY_ADMIN_KEY: Incorrect API key"),
    ],
)
def test_bootstrap_reports_a_missing_or_malformed_key(
    section: PostgresSection, variables: dict[str, str], sentence: str
) -> None:
    done = run(section, "bootstrap", **variables)

    assert done.returncode == 1
    assert sentence in done.stderr
