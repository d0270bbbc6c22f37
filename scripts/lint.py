"""House rules that no off-the-shelf linter knows: money, tenancy, time, names and sizes.

Each rule is a function from one parsed file to its offences; `tests/contract/test_lint.py` shows each of them fail.
Run it alone (`python scripts/lint.py`) for the whole tree, or with paths.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "core", "service"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
MONEY = re.compile(r"(^|_)(nano|nano_usd|cost|price|held|spent|cap|budget)(_|$)")

# Who may see across tenants, and why.
SYSTEM_TRANSACTIONS = {
    "chassis/kafka/outbox.py": "relays events of all tenants",
    "chassis/postgres/database.py": "asks whether the database answers",
    "gateway/adapters/postgres.py": "looks a key up before its tenant is known; administers tenants",
    "metering/adapters/ledger.py": "settles events of many tenants in one transaction; sweeps leases; audits",
    "metering/adapters/prices.py": "reads the price book of everybody",
    "metering/adapters/reservations.py": "groups reservations of many tenants in one transaction",
    "orchestrator/adapters/postgres.py": "groups usage events of many tenants; reads and edits the route table",
    "retrieval/adapters/postgres/hnsw.py": "counts the chunks of large stores, to say which want an index",
    "retrieval/adapters/postgres/ingests.py": "finds attachments that wait, of any tenant",
    "retrieval/adapters/postgres/removals.py": "finds objects to remove, of any tenant",
}


@dataclass(frozen=True, slots=True)
class Offence:
    """A broken rule at a place."""

    line: int
    rule: str


Rule = Callable[[str, ast.Module], Iterator[Offence]]


def transactions_cross_tenants_only_where_listed(path: str, tree: ast.Module) -> Iterator[Offence]:
    """`Database.system()` sees every tenant's rows; each file that calls it is listed with its reason."""
    if not in_source(path) or any(path.endswith(listed) for listed in SYSTEM_TRANSACTIONS):
        return
    for node in calls(tree):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "system" and not node.args and not node.keywords:
            yield Offence(node.lineno, "a transaction over all tenants outside the list in scripts/lint.py")


def connections_come_from_the_chassis(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Only `chassis.postgres` connects, so that no query runs without a tenant."""
    if "services/" not in path or "/tests/" in path:
        return
    for node in calls(tree):
        if ast.unparse(node.func) in {"asyncpg.connect", "asyncpg.create_pool"}:
            yield Offence(node.lineno, "a connection that chassis.postgres did not make")


def the_tenant_is_set_by_the_chassis(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Nobody writes the setting that row-level security reads, but the one transaction helper."""
    if not in_source(path) or "chassis/postgres" in path:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "argosy.tenant" in node.value:
            yield Offence(node.lineno, "argosy.tenant is set outside chassis.postgres")


def money_is_never_a_float(path: str, tree: ast.Module) -> Iterator[Offence]:
    """No parameter, field or result whose name speaks of money is a float."""
    if not in_source(path):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            if MONEY.search(name) and re.search(r"\bfloat\b", ast.unparse(node.annotation)):
                yield Offence(node.lineno, f"{name} is money and a float")
        elif (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.returns is not None
            and MONEY.search(node.name)
            and re.search(r"\bfloat\b", ast.unparse(node.returns))
        ):
            yield Offence(node.lineno, f"{node.name} answers money as a float")


def the_environment_is_read_by_settings(path: str, tree: ast.Module) -> Iterator[Offence]:
    """Services read their environment through Settings alone; they may write what a library reads when it loads.

    Commands of `main` may read a secret that was handed to them.
    """
    if "services/" not in path or "/tests/" in path or path.endswith(("settings.py", "main.py")):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute) and _reads_environment(node):
            yield Offence(node.lineno, "the environment is read outside Settings")


def _reads_environment(node: ast.Subscript | ast.Attribute) -> bool:
    of_environ = ast.unparse(node.value) == "os.environ"
    if isinstance(node, ast.Subscript):
        return of_environ and isinstance(node.ctx, ast.Load)
    return (of_environ and node.attr in {"get", "items", "copy"}) or ast.unparse(node) == "os.getenv"


def domains_ask_the_clock(path: str, tree: ast.Module) -> Iterator[Offence]:
    """A domain takes time from `Clock`, so that tests can give it."""
    if "/domain/" not in path:
        return
    for node in calls(tree):
        if ast.unparse(node.func) in {"datetime.now", "time.time", "time.monotonic", "datetime.datetime.now"}:
            yield Offence(node.lineno, "a domain reads the clock of the machine")


def no_base_http_middleware(path: str, tree: ast.Module) -> Iterator[Offence]:
    """It costs more than the rest of a request together."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "BaseHTTPMiddleware" for alias in node.names):
            yield Offence(node.lineno, "BaseHTTPMiddleware")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "middleware":
            yield Offence(node.lineno, "app.middleware() is BaseHTTPMiddleware")


def names_are_of_the_domain(path: str, tree: ast.Module) -> Iterator[Offence]:
    """A module is named for what it is about."""
    if Path(path).stem in FORBIDDEN_NAMES and "proto/" not in path:
        yield Offence(1, f"a module named {Path(path).stem}")


def sizes_stay_readable(path: str, tree: ast.Module) -> Iterator[Offence]:
    """A module is read in one breath."""
    lines = max((node.end_lineno or 0 for node in tree.body), default=0)
    if lines > LONGEST_FILE:
        yield Offence(1, f"{lines} lines, at most {LONGEST_FILE}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > LONGEST_FUNCTION:
                yield Offence(node.lineno, f"{node.name} has {size} lines, at most {LONGEST_FUNCTION}")


RULES: tuple[Rule, ...] = (
    transactions_cross_tenants_only_where_listed,
    connections_come_from_the_chassis,
    the_tenant_is_set_by_the_chassis,
    money_is_never_a_float,
    the_environment_is_read_by_settings,
    domains_ask_the_clock,
    no_base_http_middleware,
    names_are_of_the_domain,
    sizes_stay_readable,
)


def tables_are_tenanted(sql: str) -> Iterator[Offence]:
    """Every table starts with tenant_id, in its columns and its primary key, and forces row-level security."""
    for table in re.finditer(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([\w.]+)\s*\(", sql, re.IGNORECASE):
        line = sql.count("\n", 0, table.start()) + 1
        for rule in _untenanted(table[1], _in_parentheses(sql, table.end()), sql):
            yield Offence(line, f"table {table[1]}: {rule}")


def _untenanted(name: str, body: str, sql: str) -> Iterator[str]:
    """What a table, with its columns and constraints in `body`, lacks in its migration."""
    if not re.match(r"\s*(--[^\n]*\n\s*)*tenant_id\s+text\s+NOT NULL", body, re.IGNORECASE):
        yield "tenant_id is not the first column"
    if not re.search(r"PRIMARY KEY\s*\(\s*tenant_id\b", body, re.IGNORECASE):
        yield "the primary key does not start with tenant_id"
    for demand in ("ENABLE", "FORCE"):
        said = rf"ALTER TABLE {re.escape(name)}\s+([^;]*,\s*)?{demand} ROW LEVEL SECURITY"  # NO FORCE is none
        if not re.search(said, sql, re.IGNORECASE):
            yield f"no {demand} ROW LEVEL SECURITY"
    policies = re.findall(rf"CREATE POLICY \w+ ON {re.escape(name)}\b([^;]*);", sql, re.IGNORECASE)
    if not any("current_setting('argosy.tenant', true)" in policy for policy in policies):
        yield "no policy by argosy.tenant"
    if any(re.search(r"(USING|CHECK)\s*\(\s*true\s*\)", policy, re.IGNORECASE) for policy in policies):
        yield "a policy that lets everything pass"


def _in_parentheses(sql: str, start: int) -> str:
    """The text from `start`, just behind an opening parenthesis, to the closing one."""
    depth = 1
    for place in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[place], 0)
        if not depth:
            return sql[start:place]
    return sql[start:]


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    """Every call in a file."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def in_source(path: str) -> bool:
    """Whether a path is shipped code of a service or of the chassis."""
    return "/src/" in path and "dev/" not in path and "/testing/" not in path


def offences_of(path: str, text: str) -> list[Offence]:
    """All offences of one file, by its path within the tree."""
    if path.endswith(".sql"):
        return list(tables_are_tenanted(text))
    tree = ast.parse(text)
    return [offence for rule in RULES for offence in rule(path, tree)]


def main(paths: list[str]) -> int:
    """Print every offence; answer the exit code."""
    listed = (
        paths
        or subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.sql"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )
    found = 0
    for path in listed:
        if "proto/gen/" in path or not (ROOT / path).exists():
            continue
        for offence in offences_of(path, (ROOT / path).read_text()):
            print(f"{path}:{offence.line}: {offence.rule}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
