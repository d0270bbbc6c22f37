import asyncio
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from chassis.telemetry import bind, configure_logs, logger, logs, span
from chassis.telemetry.logs import MAX_BUFFERED_LINES, flush_logs, stop_buffering, writing_to
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.traces import recorded_spans


@pytest.fixture(autouse=True)
def configured(logs_as_they_were: None) -> None:
    configure_logs("info", "toy")


class Lines:
    """What was written to stdout."""

    def __init__(self, captured: pytest.CaptureFixture[bytes]) -> None:
        self._captured = captured

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._captured.readouterr().out.splitlines()]


@pytest.fixture
def lines(capsysbinary: pytest.CaptureFixture[bytes]) -> Lines:
    return Lines(capsysbinary)


def test_a_line_is_one_json_object_that_begins_with_when_how_bad_who_and_what(lines: Lines) -> None:
    logger("toy.box").info("toy_found", colour="red", size=3)

    (line,) = lines()
    assert list(line)[:4] == ["time", "level", "service", "event"]
    assert line["time"].endswith("Z")
    assert (line["level"], line["service"], line["event"], line["module"]) == ("info", "toy", "toy_found", "toy.box")
    assert (line["colour"], line["size"]) == ("red", 3)


def test_the_request_the_tenant_and_the_trace_are_added_from_the_context(lines: Lines) -> None:
    with as_caller(a_caller(a_principal("ten_7"), "req_7")), recorded_spans() as ended, span("play"):
        logger("toy").info("inside")
    logger("toy").info("outside")

    inside, outside = lines()
    assert (inside["request_id"], inside["tenant_id"]) == ("req_7", "ten_7")
    assert inside["trace_id"] == f"{ended()[0].context.trace_id:032x}"
    assert not {"request_id", "tenant_id", "trace_id"} & outside.keys()


def test_bound_fields_are_on_every_line_of_their_block(lines: Lines) -> None:
    with bind(topic="toys"):
        logger("toy").info("inside")
    logger("toy").info("outside")

    inside, outside = lines()
    assert inside["topic"] == "toys"
    assert "topic" not in outside


@pytest.mark.parametrize(
    "name", ["token", "secret", "password", "api_key", "authorization", "dsn", "principal", "cookie"]
)
def test_a_field_named_like_a_secret_is_never_written(lines: Lines, name: str) -> None:
    logger("toy").info("opened", **{name: "hunter2"})
    with bind(**{name: "hunter2"}):
        logger("toy").info("opened")

    assert [line[name] for line in lines()] == ["[redacted]"] * 2


def test_a_field_cannot_pretend_to_be_the_service_or_the_level(lines: Lines) -> None:
    logger("toy").warning("odd", service="bank", level="fine", time="never")

    (line,) = lines()
    assert (line["service"], line["level"]) == ("toy", "warning")


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    logger("toy").debug("whisper")

    assert lines() == []


def test_an_exception_is_in_the_line_with_its_traceback(lines: Lines) -> None:
    try:
        raise RuntimeError("broken toy")
    except RuntimeError as error:
        logger("toy").exception("broke")
        logger("toy").error("broke", exc_info=error)

    for line in lines():
        assert line["level"] == "error"
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("RuntimeError: broken toy\n")


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "value", [Unspeakable(), "\ud800", 1 << 70, {Unspeakable(): 1}, {1, 2}, b"\xff", float("nan"), object]
)
def test_whatever_is_logged_nothing_is_raised_and_a_line_comes_out(lines: Lines, value: object) -> None:
    logger("toy").info("strange", value=value)

    (line,) = lines()
    assert line["event"] == "strange"


def test_a_closed_stdout_does_not_fail_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    logger("toy").info("not written")
    logging.getLogger("library").error("not written")


def test_libraries_write_the_same_form_and_only_what_is_worth_a_warning(lines: Lines) -> None:
    configure_logs("info", "toy")  # again: pytest's own handler would raise for the faulty format
    library = logging.getLogger("library.part")
    library.info("chatter")
    library.warning("%d wheels came off", 3)
    library.warning("%d wheels", "three")
    try:
        raise ValueError("bad wheel")
    except ValueError:
        library.exception("lost")

    first, second, third = lines()
    assert (first["event"], first["module"], first["level"]) == ("3 wheels came off", "library.part", "warning")
    assert second["event"] == "%d wheels"
    assert "ValueError: bad wheel" in third["exception"]


def test_warnings_are_lines_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("this toy is old", stacklevel=1)

    assert "this toy is old" in lines()[0]["event"]


def test_debug_includes_lines_of_libraries(lines: Lines) -> None:
    configure_logs("debug", "toy")
    logging.getLogger("library").info("chatter")

    assert [line["event"] for line in lines()] == ["chatter"]


def test_lines_of_several_threads_do_not_mix(lines: Lines) -> None:
    def chatter() -> None:
        for number in range(50):
            logger("toy").info("spoke", number=number, text="x" * 500)

    threads = [threading.Thread(target=chatter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(lines()) == 200


def test_commands_keep_stdout_for_themselves(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    configure_logs("info", "toy", stream="stderr")
    logger("toy.command").info("meanwhile")

    printed = capsysbinary.readouterr()
    assert printed.out == b""
    assert json.loads(printed.err)["event"] == "meanwhile"


class Pipe:
    """A stdout that keeps each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.buffer = self

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def events(self) -> list[list[str]]:
        """The lines of each write."""
        return [[json.loads(line)["event"] for line in write.splitlines()] for write in self.writes]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe()
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stdout=pipe))
    configure_logs("info", "toy", buffered=True)
    yield pipe
    stop_buffering()


async def test_the_lines_of_a_turn_of_the_loop_are_one_write(pipe: Pipe) -> None:
    for number in range(3):
        logger("toy").info(f"first {number}")
    assert pipe.writes == []
    await asyncio.sleep(0)
    logger("toy").info("second")
    await asyncio.sleep(0)

    assert pipe.events() == [["first 0", "first 1", "first 2"], ["second"]]


async def test_a_warning_is_written_at_once_after_the_buffered_lines(pipe: Pipe) -> None:
    logger("toy").info("before")
    logger("toy").warning("careful")
    logging.getLogger("library").error("broke")

    assert pipe.events() == [["before", "careful"], ["broke"]]


async def test_a_full_buffer_is_written_before_the_turn_ends(pipe: Pipe) -> None:
    for _ in range(MAX_BUFFERED_LINES + 1):
        logger("toy").info("chatter")
    assert [len(write) for write in pipe.events()] == [MAX_BUFFERED_LINES]
    await asyncio.sleep(0)

    assert [len(write) for write in pipe.events()] == [MAX_BUFFERED_LINES, 1]


def test_without_a_loop_lines_are_written_at_once(pipe: Pipe) -> None:
    logger("toy").info("alone")

    assert pipe.events() == [["alone"]]


def test_lines_of_an_ended_loop_and_of_the_next_one_are_written(pipe: Pipe) -> None:
    async def log_line(what: str) -> None:
        logger("toy").info(what)

    for what in ("first loop", "second loop"):
        with asyncio.Runner() as runner:
            runner.run(log_line(what))
    flush_logs()

    assert [event for write in pipe.events() for event in write] == ["first loop", "second loop"]


async def test_threads_and_a_loop_lose_and_mix_no_line(pipe: Pipe) -> None:
    def chatter() -> None:
        for number in range(100):
            logger("toy").info("thread", number=number)

    threads = [threading.Thread(target=chatter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        logger("toy").info("loop", number=number)
        if number % 5 == 0:
            await asyncio.sleep(0)
    for thread in threads:
        thread.join()
    await asyncio.sleep(0)

    printed = [event for write in pipe.events() for event in write]
    assert (printed.count("thread"), printed.count("loop")) == (300, 200)


def test_a_line_logged_during_a_write_is_written_after_it(pipe: Pipe) -> None:
    """As finalizers do: the collector runs them wherever it likes, while others wait for the same output."""
    other = threading.Thread(target=lambda: logging.getLogger("other").error("other"), daemon=True)
    write = pipe.write

    def interrupted(data: bytes) -> None:
        pipe.write = write  # type: ignore[method-assign]
        other.start()
        other.join(0.05)
        logging.getLogger("library").error("within")
        logger("toy").info("within, too")
        write(data)

    pipe.write = interrupted  # type: ignore[method-assign]
    first = threading.Thread(target=lambda: logger("toy").warning("first"), daemon=True)
    with writing_to(logs.Output()):
        first.start()
        first.join(2)
        assert not first.is_alive()
        other.join(2)

    printed = [event for write in pipe.events() for event in write]
    assert printed[0] == "first"
    assert sorted(printed) == ["first", "other", "within", "within, too"]


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise RuntimeError('crash')", "exit_now(1)"])
def test_a_process_that_exits_within_a_turn_writes_all_lines(end: str) -> None:
    program = f"""
import asyncio, sys
from chassis.lifecycle.runner import exit_now, log
from chassis.telemetry import configure_logs, logger
async def main():
    configure_logs("info", "toy", buffered=True)
    logger("toy").info("last words")
    if {end.startswith("exit_now")}:
        log.critical("killed")
    {end}
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=30)

    assert b"last words" in ended.stdout.splitlines()[0]
    assert ended.returncode != 0
