"""The route command, as operators call it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from chassis.settings import EX_CONFIG, PostgresSection


def run(section: PostgresSection, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call `python -m orchestrator route`."""
    assert section.owner_dsn is not None
    environment = {
        "PATH": os.environ["PATH"],
        "ORCHESTRATOR_POSTGRES__DSN": section.dsn.get_secret_value(),
        "ORCHESTRATOR_POSTGRES__POOLING": section.pooling,
        "ORCHESTRATOR_POSTGRES__OWNER_DSN": section.owner_dsn.get_secret_value(),
        "ORCHESTRATOR_PRINCIPAL__SECRETS": "a-secret-for-tests-and-nothing-but-tests",
        "ORCHESTRATOR_KAFKA__SIGNING_KEYS": "key-1:a-secret-for-tests-and-nothing-but-tests",
        **{f"ORCHESTRATOR_PEERS__{peer}": "127.0.0.1:1" for peer in ("INFERENCE_WORKER", "METERING", "RETRIEVAL")},
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "route", *arguments],
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_an_operator_sets_lists_and_removes_a_route(section: PostgresSection, owner: Any) -> None:
    tenant = ("--tenant", "ten_7")
    created = run(section, "set", "gpt", "a/1", "b/2", *tenant)
    assert (created.returncode, created.stderr) == (0, "")

    again = run(section, "set", "gpt", "b/2", "a/1", *tenant)
    listed = run(section, "list", *tenant)
    removed, none = run(section, "remove", "gpt", *tenant), run(section, "remove", "gpt", *tenant)

    assert again.stdout == listed.stdout
    assert "gpt    ten_7   chat  b/2 (max_tokens 4096), a/1 (max_tokens 4096)" in listed.stdout
    assert (removed.returncode, removed.stdout) == (0, "removed the route gpt of ten_7\n")
    assert (none.returncode, none.stdout) == (0, "there is no route gpt of ten_7\n")


async def test_a_refusal_is_a_sentence_and_a_status(section: PostgresSection) -> None:
    invalid = run(section, "set", "gpt", "gpt-5-mini")
    without_owner = run(section, "list", ORCHESTRATOR_POSTGRES__OWNER_DSN="")

    assert (invalid.returncode, len(invalid.stderr.splitlines())) == (1, 1)
    assert "'gpt-5-mini' is no candidate" in invalid.stderr
    assert without_owner.returncode == EX_CONFIG
    assert "ORCHESTRATOR_POSTGRES__OWNER_DSN is required" in without_owner.stderr
