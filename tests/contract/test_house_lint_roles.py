"""File name → allowed imports: each role is seen to refuse what belongs to another."""

import pytest

from scripts.house_lint.__main__ import violations_in
from scripts.house_lint.roles import ROLE_BY_PATH, role_of
from scripts.house_lint.source import ROOT

METERING = "services/metering/src/metering"

FORBIDDEN = [
    ("ledger/model.py", "import asyncpg"),
    ("ledger/audit.py", "from argosy.metering.v1 import metering_pb2"),
    ("ledger/audit.py", "from metering.ledger.postgres import PostgresLedger"),
    ("ledger/audit.py", "from metering.ledger import postgres"),
    ("ledger/audit.py", "from metering.ledger.grpc import LedgerServicer"),
    ("ledger/audit.py", "from metering.metrics import ENTRIES"),
    ("ledger/audit.py", "from metering.settings import Settings"),
    ("ledger/audit.py", "from chassis.telemetry import logger"),
    ("ledger/audit.py", "from chassis import telemetry"),
    ("ledger/audit.py", "from values.protos import proto_to_usage"),
    ("ledger/audit.py", "from pydantic import BaseModel"),
    ("ledger/ports.py", "from metering.ledger.protos import entry_to_proto"),
    ("ledger/grpc.py", "from metering.ledger.postgres import PostgresLedger"),
    ("ledger/grpc.py", "import asyncpg"),
    ("settlement/consumer.py", "from metering.settlement.postgres import settle"),
    ("ledger/schedule.py", "from metering.main import serve"),
    ("ledger/postgres.py", "from metering.ledger.grpc import LedgerServicer"),
    ("ledger/postgres.py", "from fastapi import APIRouter"),
    ("ledger/postgres.py", "from metering.settings import Settings"),
    ("prices/retrieval_client.py", "from metering.prices.http import router"),
    ("prices/retrieval_client.py", "from metering.prices.postgres import PostgresPrices"),
    ("ledger/audit.py", "from metering.prices.retrieval_client import RetrievalClient"),
    ("ledger/protos.py", "from metering.ledger.postgres import row_to_entry"),
    ("ledger/schemas.py", "import asyncpg"),
    ("ledger/audit.py", "from retrieval.files.model import File"),
    ("ledger/postgres.py", "from .grpc import LedgerServicer"),
    ("metrics.py", "from metering.ledger.model import Entry"),
    ("settings.py", "from metering.ledger.postgres import PostgresLedger"),
    ("background.py", "import redis"),
]
ALLOWED = [
    (
        "ledger/audit.py",
        "import asyncio\nimport orjson\nfrom values.money import NanoUsd\nfrom chassis.aio import periodic",
    ),
    ("ledger/audit.py", "from metering.prices.model import Price\nfrom metering.budgets.reserve import reserve"),
    ("ledger/audit.py", "from chassis.errors import ArgosyError\nfrom chassis import clock"),
    (
        "ledger/grpc.py",
        "import grpc\nfrom argosy.metering.v1 import metering_pb2\nfrom metering.ledger.model import post",
    ),
    ("ledger/grpc.py", "from metering.ledger.protos import entry_to_proto\nfrom metering.metrics import ENTRIES"),
    ("settlement/consumer.py", "from chassis.kafka import Record\nfrom argosy.metering.v1 import events_pb2"),
    (
        "ledger/postgres.py",
        "import asyncpg\nfrom chassis.postgres import Database\nfrom metering.ledger.model import Entry",
    ),
    ("ledger/postgres.py", "from metering.budgets.postgres import lock_budgets"),
    ("prices/redis.py", "import redis\nfrom chassis.redis import RedisClient"),
    ("ledger/schemas.py", "import msgspec\nfrom pydantic import BaseModel\nfrom metering.ledger.model import Entry"),
    (
        "main.py",
        "from metering.ledger.postgres import X\nfrom metering.ledger.grpc import Y\nfrom metering.settings import Z",
    ),
    ("ledger/http.py", "from fastapi import APIRouter\nfrom metering.prices.retrieval_client import RetrievalClient"),
    ("settings.py", "from pydantic_settings import BaseSettings\nfrom values.limits import MAX_TOKENS"),
]


@pytest.mark.parametrize(("file", "imports"), FORBIDDEN)
def test_an_import_for_another_role_is_found(file: str, imports: str) -> None:
    assert [v.message for v in violations_in(f"{METERING}/{file}", f"{imports}\n") if " imports " in v.message]


@pytest.mark.parametrize(("file", "imports"), ALLOWED)
def test_the_imports_of_a_role_pass(file: str, imports: str) -> None:
    assert violations_in(f"{METERING}/{file}", f"{imports}\n") == []


def test_the_message_names_the_role_and_the_import() -> None:
    (violation,) = violations_in(f"{METERING}/ledger/audit.py", "import asyncpg\n")
    assert violation.message == "a pure file imports asyncpg: asyncpg is not for a pure file"


def test_a_technology_has_its_own_packages_and_no_callers() -> None:
    parser = "services/retrieval/src/retrieval/parsing/pdf.py"
    assert violations_in(parser, "import pypdfium2\nfrom retrieval.parsing.model import Block\n") == []
    assert violations_in(parser, "from retrieval.ingestion.consumer import handle\n")


def test_each_path_with_a_role_exists() -> None:
    for path in ROLE_BY_PATH:
        service = path.split("/")[0].replace("_", "-")
        module = ROOT / "services" / service / "src" / path
        assert module.is_dir() or module.with_suffix(".py").exists(), f"{path} is listed and does not exist"


def test_only_files_of_services_have_roles() -> None:
    assert role_of(("chassis", "postgres", "database")) == ""
    assert role_of(()) == ""
    assert role_of(("gateway", "web", "app")) == "web"
    assert role_of(("gateway", "web", "pagination")) == "pure"
    assert role_of(("gateway", "files", "retrieval_client")) == "client"
    assert role_of(("inference_worker", "providers", "ports")) == "pure"
    assert role_of(("inference_worker", "providers", "openai", "chat")) == "technology"
