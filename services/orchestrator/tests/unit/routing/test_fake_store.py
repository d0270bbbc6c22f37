"""The fakes keep the promises of the real ones."""

import pytest
from orchestrator.domain.routes import RouteCandidate

from services.orchestrator.tests.fakes import FakeRouteBook, FakeRouteEditor, FakeUsageLog
from services.orchestrator.tests.route_book import Change, RouteBookContract
from services.orchestrator.tests.route_editor import RouteEditorContract
from services.orchestrator.tests.usage_log import UsageLogContract, Written


class TestFakeRouteBook(RouteBookContract):
    @pytest.fixture
    def book(self) -> FakeRouteBook:
        return FakeRouteBook()

    @pytest.fixture
    def change(self, book: FakeRouteBook) -> Change:
        async def change(tenant_id: str, model: str, candidates: list[RouteCandidate]) -> None:
            book.change(tenant_id, model, candidates)

        return change


class TestFakeRouteEditor(RouteEditorContract):
    @pytest.fixture
    def book(self) -> FakeRouteBook:
        return FakeRouteBook()

    @pytest.fixture
    def editor(self, book: FakeRouteBook) -> FakeRouteEditor:
        return FakeRouteEditor(book)


class TestFakeUsageLog(UsageLogContract):
    @pytest.fixture
    def log(self) -> FakeUsageLog:
        return FakeUsageLog()

    @pytest.fixture
    def written(self, log: FakeUsageLog) -> Written:
        async def written() -> list[tuple[str, str]]:
            return list(log.events)

        return written
