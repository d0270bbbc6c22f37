"""Sizes, module names, and where the environment and the clock are read."""

import ast
from collections.abc import Iterator
from pathlib import Path

from scripts.house_lint.roles import role_of
from scripts.house_lint.source import SourceFile, Violation

FORBIDDEN_MODULES = {
    "utils", "util", "helpers", "helper", "common", "shared", "misc", "base", "manager", "core", "service",
}  # fmt: skip
MAX_FILE_LINES, MAX_TEST_FILE_LINES, MAX_FUNCTION_LINES = 300, 400, 60
CLOCKS = {"datetime.now", "time.time", "time.monotonic", "datetime.datetime.now"}


def sizes_stay_readable(file: SourceFile) -> Iterator[Violation]:
    lines = file.text.count("\n")
    limit = MAX_TEST_FILE_LINES if file.is_test else MAX_FILE_LINES
    if lines > limit:
        yield Violation(1, f"{lines} lines, at most {limit}")
    for node in file.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MAX_FUNCTION_LINES:
                yield Violation(node.lineno, f"{node.name} has {size} lines, at most {MAX_FUNCTION_LINES}")


def modules_are_named_for_their_content(file: SourceFile) -> Iterator[Violation]:
    for name in (Path(file.path).stem, *file.module[:-1]):
        if name in FORBIDDEN_MODULES and not file.path.startswith("proto/"):
            yield Violation(1, f"a module named {name}")


def the_environment_is_read_by_settings(file: SourceFile) -> Iterator[Violation]:
    """Services read their environment through Settings; they may set variables that a library reads.

    A command may read a secret that the caller passes in a variable.
    """
    if "services/" not in file.path or file.is_test or file.path.endswith(("settings.py", "main.py", "cli.py")):
        return
    for node in file.nodes:
        if isinstance(node, ast.Subscript | ast.Attribute) and _reads_environment(node):
            yield Violation(node.lineno, "the environment is read outside Settings")


def _reads_environment(node: ast.Subscript | ast.Attribute) -> bool:
    of_environ = ast.unparse(node.value) == "os.environ"
    if isinstance(node, ast.Subscript):
        return of_environ and isinstance(node.ctx, ast.Load)
    return (of_environ and node.attr in {"get", "items", "copy"}) or ast.unparse(node) == "os.getenv"


def pure_files_use_the_clock(file: SourceFile) -> Iterator[Violation]:
    """A pure file takes the time from `chassis.clock`, so that tests can set it."""
    if role_of(file.module) != "pure":
        return
    for node in file.calls():
        if ast.unparse(node.func) in CLOCKS:
            yield Violation(node.lineno, "a pure file reads the machine's clock; use chassis.clock")


def no_function_middleware(file: SourceFile) -> Iterator[Violation]:
    """`app.middleware()` is BaseHTTPMiddleware, which costs more than the rest of a request together."""
    for node in file.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "middleware":
            yield Violation(node.lineno, "app.middleware() is BaseHTTPMiddleware")
