"""Runs the unit and integration tests; a few that fail get a second chance, each by itself, after all others.

`python -m tests.second_chance [--after PID] ARGUMENTS OF PYTEST`; it is a plugin of that pytest too. When all pass the
second time the exit status is 0, and each is printed and listed in `FLAKY_FILE`: a bug to mend (docs/how-to.md).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

MAX_FAILURES = 5
"""More are no accident."""
FLAKY_FILE = Path(".argosy/test/flaky.txt")
PROMISES = re.compile(
    r"services/metering/|services/retrieval/tests/integration/(ingestion/|test_process)"
    r"|attempts|batches|jobs|leases|ledger|money|outbox|reservations|usage|worker_death"
)
"""Money and work that must not be lost: a failure in a thousand runs is what these tests look for."""
CRASH = "crashed while running"
"""What pytest-xdist reports of a test whose process died."""
OUTPUT_VARIABLE = "TESTS_FAILURES_FILE"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write what failed, with the reason, for the process that runs this pytest."""
    output = os.environ.get(OUTPUT_VARIABLE)
    if output:
        failures: dict[str, str] = {}
        for kind in ("failed", "error"):  # an error of a fixture, also after its test has failed or passed
            for report in terminalreporter.stats.get(kind, ()):
                failures.setdefault(report.nodeid, _reason(report))
        Path(output).write_text(json.dumps(failures))


def _reason(report: pytest.TestReport) -> str:
    """The first line of the error."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr or "").strip().partition("\n")[0]


def first_run(arguments: list[str]) -> tuple[int, dict[str, str]]:
    """Run the tests; return the exit status, and the reason for each test that failed."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "failures.json"
        status = _pytest("-p", "tests.second_chance", *arguments, environment={OUTPUT_VARIABLE: str(output)})
        return status, json.loads(output.read_text()) if output.exists() else {}


def refusal(status: int, failures: dict[str, str]) -> str | None:
    """Why these failures get no second chance; None when they do."""
    if status != pytest.ExitCode.TESTS_FAILED or not failures:
        return f"pytest ended with status {status}"
    if len(failures) > MAX_FAILURES:
        return f"{len(failures)} tests failed, and at most {MAX_FAILURES} get one"
    for test, reason in failures.items():
        if CRASH in reason:
            return f"a process died in {test}"
        if PROMISES.search(test.partition("::")[0]):
            return f"{test} guards money or work that must not be lost"
        if not Path(test.partition("::")[0]).is_file() or "::" not in test:
            return f"{test} could not be collected"
    return None


def main(arguments: list[str]) -> int:
    """Return the exit status of the tests, after the second chance."""
    others: psutil.Process | None = None
    if arguments[:1] == ["--after"]:
        others = psutil.Process(int(arguments[1])) if psutil.pid_exists(int(arguments[1])) else None
        arguments = arguments[2:]
    status, failures = first_run(arguments)
    if status == pytest.ExitCode.OK:
        return status
    if reason := refusal(status, failures):
        print(f"no second chance: {reason}", flush=True)
        return status
    if others is not None:
        psutil.wait_procs([others])  # what runs beside the tests may be why they failed
    for number, test in enumerate(failures, 1):
        print(f"\nsecond chance, {number} of {len(failures)}: {test}", flush=True)
        if _pytest(test) != pytest.ExitCode.OK:
            print(f"FAILED twice: {test}", flush=True)
            return status
    _report(failures)
    return 0


def _pytest(*arguments: str, environment: dict[str, str] | None = None) -> int:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, check=False, env=os.environ | (environment or {})).returncode


def _report(failures: dict[str, str]) -> None:
    lines = [f"FLAKY: {test} (first failure: {reason})" for test, reason in failures.items()]
    print("\n" + "\n".join(lines), flush=True)
    FLAKY_FILE.parent.mkdir(parents=True, exist_ok=True)
    with FLAKY_FILE.open("a") as file:
        file.writelines(f"{datetime.now(UTC):%Y-%m-%d %H:%M} {line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
