"""Retired words are found in identifiers, settings, metrics, error codes and log events, and nowhere else."""

import pytest

from scripts.house_lint.__main__ import violations_in
from scripts.house_lint.vocabulary import retired

PURE = "services/orchestrator/src/orchestrator/chat/generate.py"
TEST = "services/orchestrator/tests/unit/chat/test_generate.py"

RETIRED = [
    ("class Leash: ...", "CancelScope"),
    ("class ShortLeash: ...", "CancelScope"),
    ("def hang_up() -> None: ...", "abort"),
    ("def f(patience: int) -> None: ...", "timeout"),
    ("told = 1", "published"),
    ("MOST_TOKENS = 1", "max_"),
    ("longest_wait = 1", "max_"),
    ("self.broke = True", "failed"),
    ("for wish in x: ...", "request"),
    ("try: ...\nexcept OSError as news: ...", "changes"),
    ("import x as door", "Authenticator"),
    ("match x:\n    case {'a': heard}: ...", "received"),
    ("class Outlet: ...", "StreamBuffer"),
    ("class RouteBook: ...", "RouteStore"),
    ("EVERYBODY = '*'", "all_tenants"),
    ("NAME = 'ORCHESTRATOR_TIMES__FIRST_BYTE'", "ORCHESTRATOR_TIMEOUTS__"),
    ("NAME = 'set GATEWAY_KEYS__HEARD to 5'", "GATEWAY_KEYS__CACHE_TTL"),
    ("count = counter('gateway_admissions_total')", "gateway_authentications_total"),
    ("reason = 'UPSTREAM_CUT'", "upstream_interrupted"),
    ("log.error('stream_broke')", "stream_failed"),
]
FINE = [
    "almost = most = 1",
    "released = toldo = 1",
    "look_up = lookup = 1",
    "class Patient: ...",
    "def outer() -> str: return 'we told nobody of the upstream_cut'",
    "await asyncio.gather(x)",
    "x.broke",
    "NAME = 'ORCHESTRATOR_TIMEOUTS__FIRST_BYTE'",
]


@pytest.mark.parametrize(("code", "term"), RETIRED)
def test_a_retired_word_is_found_with_the_term_that_replaced_it(code: str, term: str) -> None:
    assert [v.message for v in violations_in(PURE, f"{code}\n") if "retired" in v.message and term in v.message]


@pytest.mark.parametrize("code", FINE)
def test_ordinary_words_pass(code: str) -> None:
    text = f"async def f():\n    {code}\n" if code.startswith("await") else f"{code}\n"
    assert violations_in(PURE, text) == []


def test_names_of_tests_are_sentences_but_have_no_private_terms() -> None:
    assert violations_in(TEST, "def test_a_client_that_is_gone_is_told_nothing(): ...\n") == []
    assert violations_in(TEST, "def test_the_leash_ends(): ...\n")
    assert violations_in(TEST, "def told(): ...\n")


def test_a_retired_module_is_found_in_its_scope_alone() -> None:
    assert violations_in("services/gateway/src/gateway/door.py", "")
    assert violations_in("services/gateway/src/gateway/adapters/redis.py", "")
    assert violations_in("libs/chassis/src/chassis/adapters/redis.py", "") == []


def test_a_name_is_retired_in_its_scope_alone() -> None:
    assert violations_in(PURE, "class Recorder: ...\n")
    assert violations_in("services/metering/src/metering/usage/record.py", "class Recorder: ...\n") == []


def test_no_entry_is_listed_twice_and_no_term_is_retired_itself() -> None:
    entries = [entry for entries in retired().values() for entry in entries]
    assert len({(e.kind, e.scope, e.old) for e in entries}) == len(entries)
    strings = {e.old.lower() for e in entries if e.kind in {"setting", "metric", "code", "log"}}
    assert strings.isdisjoint(e.new.lower() for e in entries)
