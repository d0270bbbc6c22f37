"""What every rule works on: one parsed file, and the violations found in it."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Violation:
    line: int
    message: str


@dataclass(frozen=True)
class SourceFile:
    """A Python file by its path in the repository."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @property
    def is_shipped(self) -> bool:
        """Whether it is code of a service or a library, and neither `dev` nor `chassis.testing`."""
        return "/src/" in self.path and not self.path.startswith("dev/") and "/testing/" not in self.path

    @property
    def is_test(self) -> bool:
        return "/tests/" in f"/{self.path}"

    @property
    def module(self) -> tuple[str, ...]:
        """The parts of its module's name: ("metering", "ledger", "postgres"); empty outside `src`."""
        _, separator, rest = self.path.partition("/src/")
        return tuple(rest.removesuffix(".py").split("/")) if separator else ()

    def calls(self) -> Iterator[ast.Call]:
        return (node for node in self.nodes if isinstance(node, ast.Call))


Rule = Callable[[SourceFile], Iterator[Violation]]
