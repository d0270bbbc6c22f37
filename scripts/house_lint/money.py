"""Money: never a float."""

import ast
import re
from collections.abc import Iterator

from scripts.house_lint.source import SourceFile, Violation

MONEY = re.compile(r"(^|_)(nano|nano_usd|cost|price|held|spent|cap|budget)(_|$)")
FLOAT = re.compile(r"\bfloat\b")


def money_is_never_a_float(file: SourceFile) -> Iterator[Violation]:
    """No parameter, field or result with a money name has the type float."""
    if not file.is_shipped:
        return
    for node in file.nodes:
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            if MONEY.search(name) and FLOAT.search(ast.unparse(node.annotation)):
                yield Violation(node.lineno, f"{name} is money and a float")
        elif (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.returns is not None
            and MONEY.search(node.name)
            and FLOAT.search(ast.unparse(node.returns))
        ):
            yield Violation(node.lineno, f"{node.name} returns money as a float")
