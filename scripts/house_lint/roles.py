"""File roles of a service: the name of a file decides what it may import (docs/architecture.md, "Layout").

`main` and `__main__` may import everything. Every other file of a service has one of the roles below.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.house_lint.source import ROOT, SourceFile, Violation

SERVICES = {"gateway", "orchestrator", "inference_worker", "metering", "retrieval"}
PURE_CHASSIS = {"errors", "aio", "clock", "ids", "tenancy"}
REDACTION = ("telemetry", "redaction")
"""Pure as well: a function of texts."""
WIRE = {"argosy", "google", "grpc"}

ROLE_BY_NAME = {
    "__init__": "pure",
    "__main__": "main",
    "main": "main",
    "settings": "settings",
    "metrics": "metrics",
    "telemetry": "telemetry",
    **dict.fromkeys(("http", "grpc", "consumer", "schedule", "cli"), "caller"),
    **dict.fromkeys(("postgres", "redis", "outbox", "kafka", "objects"), "callee"),
    **dict.fromkeys(("schemas", "protos", "stream"), "translator"),
}

# Folders and files whose role does not follow from the name; the longest matching prefix counts. In such a folder,
# names of pure files and translators keep their role: `providers/ports.py` is pure.
ROLE_BY_PATH = {
    "gateway/declaration/file": "technology",  # YAML
    "gateway/web": "web",  # ASGI, middleware, OpenAPI, multipart
    "gateway/web/errors": "translator",
    "gateway/web/request_body": "translator",
    "gateway/web/pagination": "pure",
    "gateway/web/sse": "translator",
    "inference_worker/concurrency": "technology",  # gRPC interceptors
    "inference_worker/providers": "technology",  # HTTP, LiteLLM and ONNX behind the ports of `providers/ports.py`
    "inference_worker/providers/credentials": "pure",
    "inference_worker/providers/assemble": "pure",  # chunks to a completion, for jobs too
    "inference_worker/providers/status_errors": "pure",
    "inference_worker/providers/unavailable": "pure",
    "inference_worker/token_counting": "technology",  # tokenizers
    "inference_worker/token_counting/messages": "pure",
    "inference_worker/token_counting/output": "pure",
    "inference_worker/upstreams/open": "technology",  # the kinds of providers, and cryptography
    "retrieval/chunking": "technology",  # a tokenizer
    "orchestrator/flags/provider": "technology",  # the SDK of OpenFeature
    "orchestrator/chat/stream": "pure",  # the buffer of a stream, not a translator
    "orchestrator/upstreams/credentials_postgres": "callee",
    "orchestrator/upstreams/vault": "technology",  # cryptography
    "orchestrator/pools/kubernetes": "technology",  # aiohttp, to the Kubernetes API
    "orchestrator/webhooks/cipher": "technology",  # cryptography
    "orchestrator/webhooks/delivery_postgres": "callee",
    "orchestrator/webhooks/secrets_postgres": "callee",
    "orchestrator/webhooks/sender": "technology",  # aiohttp and the system's resolver
    "retrieval/chunking/splitter": "pure",
    "retrieval/vector_stores/attachments_postgres": "callee",
    "retrieval/chunking/token_counter": "pure",
    "retrieval/deletions/records_postgres": "callee",
    "retrieval/ingestion/grouped_postgres": "callee",
    "retrieval/ingestion/finished_files_postgres": "callee",
    "retrieval/search/indexes_postgres": "callee",
    "retrieval/search/contents_postgres": "callee",
    "retrieval/search/words_postgres": "callee",
    "retrieval/store_migrations/runs_postgres": "callee",
    "retrieval/ingestion/languages_postgres": "callee",
    "retrieval/languages": "technology",  # a statistical model
    "retrieval/parsing": "technology",  # one library per file format
}
KEEPS_ITS_ROLE = {"model", "ports", "schemas", "protos", "stream"}


@dataclass(frozen=True, slots=True)
class Role:
    description: str
    imports: frozenset[str]
    """Roles of the same service's files that it may import."""
    packages: frozenset[str] | None = frozenset()
    """Third-party packages besides those of every role; None allows all."""
    chassis: bool = True
    """Whether it may import all of `chassis` and `rpc`; otherwise only the pure modules."""


_FOR_ALL = {"orjson", "cachetools", "idna"}
ROLES = {
    "pure": Role("a pure file", frozenset({"pure"}), chassis=False),
    "translator": Role(
        "a translator",
        frozenset({"pure", "translator"}),
        frozenset({"argosy", "google", "msgspec", "pydantic", "fastapi", "starlette"}),
    ),
    "caller": Role(
        "a caller",
        frozenset({"pure", "translator", "caller", "client", "web", "metrics", "telemetry", "technology"}),
        frozenset({*WIRE, "fastapi", "starlette", "pydantic", "msgspec"}),
    ),
    "callee": Role(
        "a callee",
        frozenset({"pure", "translator", "callee", "client", "metrics", "technology"}),
        frozenset({*WIRE, "asyncpg", "redis", "aiokafka", "obstore"}),
    ),
    # Callers may name the type of a peer's client: a gateway's endpoint only translates between the two.
    "client": Role(
        "a client of a peer", frozenset({"pure", "translator", "client", "metrics", "telemetry"}), frozenset(WIRE)
    ),
    "web": Role(
        "a file of the web layer",
        frozenset({"pure", "translator", "caller", "client", "web", "metrics", "telemetry", "technology"}),
        None,
    ),
    "telemetry": Role("telemetry", frozenset({"pure", "translator", "metrics"}), frozenset(WIRE)),
    "metrics": Role("metrics", frozenset(), frozenset({"prometheus_client"})),
    "settings": Role(
        "settings", frozenset({"pure", "technology", "settings"}), frozenset({"pydantic", "pydantic_settings"})
    ),
    "technology": Role(
        "a wrapper of a technology", frozenset({"pure", "translator", "metrics", "telemetry", "technology"}), None
    ),
}


def role_of(module: tuple[str, ...]) -> str:
    """Return the role of a service's module; empty for a module that is not of a service."""
    if not module or module[0] not in SERVICES:
        return ""
    name, path = module[-1], "/".join(module)
    prefixes = [prefix for prefix in ROLE_BY_PATH if f"{path}/".startswith(f"{prefix}/")]
    if prefixes and (path in ROLE_BY_PATH or name not in KEEPS_ITS_ROLE):
        return ROLE_BY_PATH[max(prefixes, key=len)]
    if name.endswith("_client"):
        return "client"
    return ROLE_BY_NAME.get(name, "pure")


def files_import_what_their_role_allows(file: SourceFile) -> Iterator[Violation]:
    role = ROLES.get(role_of(file.module))
    if role is None or file.is_test:
        return
    for line, module in _imports(file):
        if message := _forbidden(role, module, file.module[0]):
            yield Violation(line, f"{role.description} imports {'.'.join(module)}: {message}")


def _forbidden(role: Role, module: tuple[str, ...], service: str) -> str:
    package = module[0]
    if package == service:
        imported = role_of(module)
        return "" if imported in role.imports else f"it may not import {_description(imported)}"
    if package in SERVICES:
        return "services share protos and topics only"
    if package in {"chassis", "rpc"}:
        pure = package == "chassis" and ((module[1:2] and module[1] in PURE_CHASSIS) or module[1:3] == REDACTION)
        return "" if role.chassis or pure else f"of chassis it may import {', '.join(sorted(PURE_CHASSIS))}"
    if package == "values":
        protos = module[1:2] in {("protos",), ("attribute_protos",)}
        return "" if role.chassis or not protos else "protos belong to translators"
    if package in sys.stdlib_module_names or package in _FOR_ALL or role.packages is None or package in role.packages:
        return ""
    return f"{package} is not for {role.description}"


def _description(role: str) -> str:
    return ROLES[role].description if role in ROLES else "main"


def _imports(file: SourceFile) -> Iterator[tuple[int, tuple[str, ...]]]:
    for node in file.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, (*file.module[: -node.level], *(node.module or "").split("."))
                continue
            module = tuple((node.module or "").split("."))
            for alias in node.names:
                yield node.lineno, (*module, alias.name) if _is_package(module) else module


def _is_package(module: tuple[str, ...]) -> bool:
    """Whether `from module import name` imports a submodule: then `name` decides the role."""
    if module[0] in SERVICES:
        folder = ROOT / "services" / module[0].replace("_", "-") / "src"
        return not folder.joinpath(*module).with_suffix(".py").exists() and len(module) <= 2
    return len(module) == 1 and module[0] in {"chassis", "values"}
