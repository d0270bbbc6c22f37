"""`python -m scripts.house_lint [PATH...]`: prints every violation and exits with 1 if there is one."""

import subprocess
import sys
from functools import cache
from pathlib import Path

from scripts.house_lint.migrations import migrations_expand_first
from scripts.house_lint.money import money_is_never_a_float
from scripts.house_lint.roles import files_import_what_their_role_allows
from scripts.house_lint.source import ROOT, Rule, SourceFile, Violation
from scripts.house_lint.structure import (
    modules_are_named_for_their_content,
    no_function_middleware,
    pure_files_use_the_clock,
    sizes_stay_readable,
    the_environment_is_read_by_settings,
)
from scripts.house_lint.tenancy import (
    system_transactions_are_listed,
    tables_have_a_tenant,
    the_tenant_is_set_by_the_chassis,
)
from scripts.house_lint.vocabulary import (
    identifiers_use_the_vocabulary,
    modules_use_the_vocabulary,
    strings_use_the_vocabulary,
)

RULES: tuple[Rule, ...] = (
    files_import_what_their_role_allows,
    identifiers_use_the_vocabulary,
    modules_use_the_vocabulary,
    strings_use_the_vocabulary,
    system_transactions_are_listed,
    the_tenant_is_set_by_the_chassis,
    money_is_never_a_float,
    the_environment_is_read_by_settings,
    pure_files_use_the_clock,
    no_function_middleware,
    modules_are_named_for_their_content,
    sizes_stay_readable,
)


def violations_in(path: str, text: str, folder: str = "") -> list[Violation]:
    """Return all violations of one file; `folder` is the text of all migrations beside an SQL file."""
    if path.endswith(".sql"):
        return [*tables_have_a_tenant(text, folder), *migrations_expand_first(path, text)]
    file = SourceFile(path, text)
    return [violation for rule in RULES for violation in rule(file)]


def main(paths: list[str]) -> int:
    found = 0
    for path in paths or _tracked():
        file = ROOT / path
        if "proto/gen/" in path or not file.exists():
            continue
        folder = _migrations(file.parent) if path.endswith(".sql") else ""
        for violation in violations_in(path, file.read_text(encoding="utf-8"), folder):
            print(f"{path}:{violation.line}: {violation.message}")
            found += 1
    return 1 if found else 0


def _tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.sql"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@cache
def _migrations(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
