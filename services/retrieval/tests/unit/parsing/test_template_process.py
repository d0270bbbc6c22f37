"""What the template of parsing processes is told, and what it may answer."""

from __future__ import annotations

from contextlib import suppress

import psutil
import pytest
from chassis.errors import Unavailable
from retrieval.parsing import messages, template_process
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block
from retrieval.parsing.subprocess_parser import SubprocessParser

from services.retrieval.tests.unit.parsing.test_subprocess_parser import data


async def test_a_template_whose_reports_cannot_be_read_is_ended_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(**_: object) -> None:
        raise TypeError("an unexpected field")

    async with SubprocessParser(Limits(), preload=False) as parser:
        with monkeypatch.context() as patched:
            patched.setattr(template_process, "Ending", unreadable)
            (template,) = psutil.Process().children()
            # The document itself may have been read before its end was reported.
            with suppress(Unavailable):
                assert [item async for item in parser.blocks("a.txt", data(b"text"))] == [Block(0, "text")]

        assert [item async for item in parser.blocks("a.txt", data(b"text"))] == [Block(0, "text")]
        assert template not in psutil.Process().children()


async def test_the_name_of_a_document_does_not_reach_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, object]] = []
    send = messages.send_at_once

    def recorded(connection: object, message: dict[str, object], *more: object) -> None:
        sent.append(message)
        send(connection, message, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(template_process, "send_at_once", recorded)
    async with SubprocessParser(Limits(), preload=False) as parser:
        assert [item async for item in parser.blocks("Salaries of Ada.TXT", data(b"text"))] == [Block(0, "text")]

    assert sent[0]["filename"] == "document.txt"
