"""Checks of `terraform/` that need no account and no network, and its generated READMEs.

    python -m scripts.terraform_checks docs [--check]    README.md of each module and environment
    python -m scripts.terraform_checks validate          both environments, with all modules
    python -m scripts.terraform_checks test              `terraform test` with a mocked provider

The provider comes from a folder: TERRAFORM_PLUGIN_DIR, or a usual place of local mirrors; otherwise it is downloaded.
Where that fails too, or Terraform is absent, the exit code is 69, which scripts/check calls skipped.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from scripts.terraform_docs import write_all

ROOT = Path(__file__).resolve().parent.parent
TERRAFORM = ROOT / "terraform"
ENVIRONMENTS = ("staging", "production")
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0"
MIRRORS = ("~/.terraform.d/plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins")
EX_UNAVAILABLE = 69


class TerraformAbsent(Exception):
    """Terraform or its provider cannot be had on this machine; the message says which."""


class TerraformFailed(Exception):
    """Terraform found a mistake, which is the message."""


def plugin_folder() -> Path | None:
    """Return a folder that has the provider, if there is one."""
    named = os.environ.get("TERRAFORM_PLUGIN_DIR")
    places = [Path(named)] if named else [*(Path(one).expanduser() for one in MIRRORS), *sorted(Path("/opt").glob("*"))]
    return next((place for place in places if (place / PROVIDER).is_dir()), None)


@contextmanager
def copied() -> Iterator[Path]:
    """Give a copy of `terraform/` in which the module of the secrets is replaced: its values cannot be mocked."""
    with tempfile.TemporaryDirectory(prefix="argosy-terraform-") as place:
        copy = Path(place) / "terraform"
        shutil.copytree(TERRAFORM, copy, ignore=shutil.ignore_patterns(".terraform"))
        for file in (copy / "tests" / "secrets").glob("*.tf"):
            shutil.copy(file, copy / "modules" / "secrets" / file.name)
        yield copy


def initialize(folder: Path) -> None:
    """Run `terraform init` without a backend. Raises TerraformAbsent."""
    if shutil.which("terraform") is None:
        raise TerraformAbsent("terraform is not on PATH")
    plugins = plugin_folder()
    source = [f"-plugin-dir={plugins}"] if plugins else []
    try:
        result = _terraform(folder, "init", "-backend=false", "-input=false", *source)
    except subprocess.TimeoutExpired:
        raise TerraformAbsent("the provider of AWS cannot be downloaded: no answer within a minute") from None
    if result.returncode:
        unavailable = ("Failed to query available provider packages", "Failed to install provider", "could not connect")
        if any(sign in result.stderr for sign in unavailable):
            raise TerraformAbsent("the provider of AWS is not here (TERRAFORM_PLUGIN_DIR) and cannot be downloaded")
        raise TerraformFailed(result.stderr)


def validate() -> None:
    """Raises TerraformFailed, and TerraformAbsent."""
    with tempfile.TemporaryDirectory(prefix="argosy-terraform-") as place:
        copy = Path(place) / "terraform"
        shutil.copytree(TERRAFORM, copy, ignore=shutil.ignore_patterns(".terraform"))
        for environment in ENVIRONMENTS:
            folder = copy / "environments" / environment
            initialize(folder)
            result = _terraform(folder, "validate")
            if result.returncode:
                raise TerraformFailed(f"{environment}: {result.stdout}{result.stderr}")


def run_tests(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of the runs that passed, and the outputs of the last one. Raises as `validate` does."""
    initialize(folder)
    result = _terraform(folder, "test", "-json", "-verbose")
    events = [orjson.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode:
        problems = [event["diagnostic"] for event in events if event["type"] == "diagnostic"]
        raise TerraformFailed("\n".join(f"{one['summary']}: {one['detail']}" for one in problems) or result.stderr)
    runs = [event["test_run"] for event in events if event["type"] == "test_run"]
    states = [event["test_state"] for event in events if event["type"] == "test_state"]
    outputs = {name: one["value"] for state in states for name, one in (state.get("outputs") or {}).items()}
    return [run["run"] for run in runs if run.get("status") == "pass"], outputs


def _terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["terraform", f"-chdir={folder}", arguments[0], "-no-color", *arguments[1:]]
    limit = 60 if arguments[0] == "init" else 600
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)


def _test() -> None:
    with copied() as copy:
        for folder in (copy, *(copy / "environments" / name for name in ENVIRONMENTS)):
            passed, _ = run_tests(folder)
            print(f"{folder.relative_to(copy.parent)}: {len(passed)} passed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("docs", "validate", "test"))
    parser.add_argument("--check", action="store_true", help="only report what is stale, and fail if anything is")
    arguments = parser.parse_args()
    try:
        if arguments.what == "docs":
            stale = write_all(TERRAFORM, check=arguments.check)
            print(
                "\n".join(
                    f"{name} {'is stale: run make terraform' if arguments.check else 'written'}" for name in stale
                )
            )
            return 1 if arguments.check and stale else 0
        (validate if arguments.what == "validate" else _test)()
    except TerraformAbsent as error:
        print(error, file=sys.stderr)
        return EX_UNAVAILABLE
    except TerraformFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
