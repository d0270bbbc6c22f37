"""The language of a text is found where it is clear, and English is meant where it is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from py3langid.langid import LanguageIdentifier
from retrieval.languages import detect
from retrieval.languages.detect import language_of, languages_of

from services.retrieval.tests.languages import SENTENCES, Sentence

GERMAN, FRENCH = SENTENCES[1].text, SENTENCES[2].text


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.language)
def test_a_sentence_tells_its_language(sentence: Sentence) -> None:
    assert language_of(sentence.text) == sentence.language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Haus",
        "Al furjan",
        "hello China",
        "Hello world",
        "12.50 13.70 2024-01-31 QX-7041 A-7 99 100 200",
        "Anna Schmidt, John Smith, Kubernetes, Docker, OpenAI, Berlin",
        "def main(args): return [x for x in args if x.startswith('--')]",
        "請求書の支払期限は月末です",
    ],
)
def test_short_texts_names_numbers_and_code_are_of_no_language_but_english(text: str) -> None:
    assert languages_of([text]) == []


def test_a_language_without_rules_counts_as_english() -> None:
    polish = "Właściciel statku płaci opłaty portowe przed opuszczeniem portu, chyba że umowa stanowi inaczej."

    assert languages_of([polish]) == []
    assert languages_of([polish] * 9 + [GERMAN]) == []


def test_neighbours_of_a_language_are_told_from_it() -> None:
    ukrainian = "Власник судна сплачує портові збори до виходу судна з порту, якщо договором не передбачено інше."
    persian = "مالک کشتی باید هزینه‌های بندر را پیش از خروج کشتی از بندر بپردازد."

    assert languages_of([ukrainian]) == languages_of([persian]) == []


def test_a_file_has_each_language_of_a_quarter_of_its_text() -> None:
    assert languages_of([GERMAN, FRENCH]) == ["french", "german"]
    assert languages_of([GERMAN] * 9 + [FRENCH]) == ["german"]
    assert languages_of([GERMAN, SENTENCES[0].text]) == ["english", "german"]
    assert languages_of([GERMAN, "12.50 13.70", "17.20 19.90", "Preis"]) == ["german"]


def test_threads_that_come_before_the_model_is_loaded_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    load, second_started = LanguageIdentifier.from_model_file, Event()
    loaded: list[Any] = []

    def load_slowly(*arguments: Any, **named: Any) -> LanguageIdentifier:
        loaded.append(arguments)
        second_started.wait(5)
        return load(*arguments, **named)

    def second() -> str | None:
        second_started.set()
        return language_of(GERMAN)

    monkeypatch.setattr(LanguageIdentifier, "from_model_file", load_slowly)
    detect._model.cache_clear()
    with ThreadPoolExecutor(2) as threads:
        languages = [threads.submit(language_of, GERMAN), threads.submit(second)]

    assert [one.result() for one in languages] == ["german", "german"]
    assert len(loaded) == 1
