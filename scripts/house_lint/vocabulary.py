"""Retired words: each has a standard term, and the list (`retired.tsv`) names it.

Kinds of entries:

    term     a word that no identifier may contain, such as `leash` in `Leash`, `_leash`, `test_a_leash_ends`
    word     the same, but allowed in the names of test functions, which are English sentences
    prefix   a first word, such as `most` in `MOST_TOKENS`
    allow    words in which none of the above counts, such as `look_up`
    name     the whole name of a function, a class or a constant, in the files of one scope
    module   the name of a file or a folder, in one scope
    setting  an environment variable, or a prefix of one that ends in `_`
    metric, code, log   a whole string: the name of a metric, an error code, a log event

An identifier is split into words at underscores and capitals: `keepHeard` has the words keep and heard.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.house_lint.source import SourceFile, Violation

LIST = Path(__file__).with_name("retired.tsv")
SPLIT = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
VARIABLE = re.compile(r"\b(?:GATEWAY|ORCHESTRATOR|INFERENCE_WORKER|METERING|RETRIEVAL)_[A-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class Retired:
    kind: str
    scope: str
    """The path prefix of the files it applies to; empty for all."""
    old: str
    new: str

    def applies_to(self, path: str) -> bool:
        return path.startswith(self.scope)

    @property
    def message(self) -> str:
        return f"`{self.old}` is retired; the term is {self.new}"


@cache
def retired() -> dict[str, list[Retired]]:
    """Return the entries by kind."""
    entries: dict[str, list[Retired]] = defaultdict(list)
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            entry = Retired(*line.split("\t"))
            entries[entry.kind].append(entry)
    return entries


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name where it is defined."""

    line: int
    name: str
    is_definition: bool
    """Whether it names a function, a class or a constant; otherwise a variable, a parameter or an attribute."""


def identifiers_use_the_vocabulary(file: SourceFile) -> Iterator[Violation]:
    if _is_exempt(file):
        return
    lists = retired()
    names = {entry.old: entry for entry in lists["name"] if entry.applies_to(file.path)}
    for identifier in _identifiers(file):
        if identifier.is_definition and (entry := names.get(identifier.name)):
            yield Violation(identifier.line, entry.message)
        words = _words(identifier.name)
        kinds = ("term",) if file.is_test and identifier.name.startswith("test_") else ("term", "word", "prefix")
        for entry in (entry for kind in kinds for entry in lists[kind] if entry.applies_to(file.path)):
            if _contains(words, entry):
                yield Violation(identifier.line, f"{identifier.name}: {entry.message}")


def modules_use_the_vocabulary(file: SourceFile) -> Iterator[Violation]:
    parts = file.module or (Path(file.path).stem,)
    for entry in retired()["module"]:
        if entry.applies_to(file.path) and entry.old in parts:
            yield Violation(1, f"module {entry.message}")


def strings_use_the_vocabulary(file: SourceFile) -> Iterator[Violation]:
    """Settings, metrics, error codes and log events are strings."""
    if _is_exempt(file):
        return
    lists = retired()
    whole = {entry.old.lower(): entry for kind in ("metric", "code", "log") for entry in lists[kind]}
    for node in file.nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if entry := whole.get(node.value.lower()):
            yield Violation(node.lineno, entry.message)
        for variable in VARIABLE.findall(node.value):
            for entry in lists["setting"]:
                if variable == entry.old or (entry.old.endswith("_") and variable.startswith(entry.old)):
                    yield Violation(node.lineno, entry.message)


def _is_exempt(file: SourceFile) -> bool:
    return file.path.startswith(("proto/", "scripts/house_lint/", "tests/contract/test_house_lint"))


def _words(name: str) -> str:
    """Return the words in lower case, each between underscores, without those that are allowed."""
    words = f"_{'_'.join(word.lower() for word in SPLIT.findall(name))}_"
    for entry in retired()["allow"]:
        words = words.replace(f"_{entry.old}_", "_")
    return words


def _contains(words: str, entry: Retired) -> bool:
    phrase = f"_{entry.old}_"
    return words.startswith(phrase) and words != phrase if entry.kind == "prefix" else phrase in words


def _identifiers(file: SourceFile) -> Iterator[Identifier]:
    for node in file.nodes:
        line = getattr(node, "lineno", 1)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield Identifier(line, node.name, is_definition=True)
            case ast.arg():
                yield Identifier(line, node.arg, is_definition=False)
            case ast.Name(ctx=ast.Store()):
                yield Identifier(line, node.id, is_definition=node.id.isupper())
            case ast.Attribute(ctx=ast.Store()):
                yield Identifier(line, node.attr, is_definition=False)
            case ast.alias(asname=str(name)):
                yield Identifier(line, name, is_definition=False)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield Identifier(line, name, is_definition=False)
            case _:
                pass
