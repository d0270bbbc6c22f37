"""The command line and the settings."""

import os
import subprocess
import sys

import pytest
from chassis.testing import FakeClock, a_principal
from gateway.api_keys.cli import print_new_key
from gateway.auth.api_key import parse_key
from gateway.main import main
from gateway.rate_limits.memory import InMemoryRateLimitStore
from gateway.settings import ClassRates, KeysSection, LimitsSection, RatesSection, Settings
from pydantic import ValidationError

from services.gateway.tests.fakes.rate_limits import FakeRateLimitStore

ENVIRONMENT = {
    "GATEWAY_POSTGRES__DSN": "postgres://gateway_app:x@127.0.0.1/argosy",
    "GATEWAY_PRINCIPAL__SECRETS": "a-secret-for-tests-and-nothing-but-tests",
}


def test_a_key_is_minted_without_any_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_new_key(["--env", "live"]) == 0

    text = capsys.readouterr().out.strip()
    assert text.startswith("argosy_live_")
    assert parse_key(text.encode()).key_id.startswith("key_")


def test_an_invalid_environment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        print_new_key(["--env", "LIVE!"])
    assert caught.value.code == 2
    assert "env must be" in capsys.readouterr().err


def test_a_key_is_minted_by_the_module_itself() -> None:
    minted = subprocess.run(
        [sys.executable, "-m", "gateway", "mint-key"], env={}, capture_output=True, text=True, check=True
    )
    assert minted.stdout.startswith("argosy_dev_")


def test_the_commands_are_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gateway", "--help"])
    with pytest.raises(SystemExit):
        main()
    helped = capsys.readouterr().out
    for command in ("serve", "migrate", "config", "bootstrap", "mint-key"):
        assert command in helped


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
    for name, value in {**ENVIRONMENT, "GATEWAY_KEYS__CACHE_TTL": "7", "GATEWAY_LIMITS__CHOICES": "3"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()

    assert settings.keys.cache_ttls().ttl.total_seconds() == 7
    assert settings.limits.inference_limits().max_choices == 3
    assert settings.limits.deadline.total_seconds() == 600


async def test_plans_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        **ENVIRONMENT,
        "GATEWAY_RATES__DEFAULT__INFERENCE__TENANT": "6",
        "GATEWAY_RATES__PLANS__FREE__INFERENCE__KEY": "4",
        "GATEWAY_RATES__PLANS__SMALL__INFERENCE__TENANT": "2",
        "GATEWAY_RATES__REPLICAS": "2",
    }.items():
        monkeypatch.setenv(name, value)
    limits, local = FakeRateLimitStore(FakeClock()), InMemoryRateLimitStore(FakeClock())
    limiter = Settings().rates.limiter(limits, local)

    statuses = [await limiter.check(a_principal(plan, plan=plan), "inference") for plan in ("free", "Small", "grown")]
    assert [status and status.limit for status in statuses] == [4, 2, 6]
    limits.down = True
    alone = await limiter.check(a_principal("ten_a", plan="free"), "inference")
    assert alone is not None
    assert alone.limit == 2


@pytest.mark.parametrize(
    "section",
    [
        lambda: KeysSection(env="DEV"),
        lambda: KeysSection(cache_ttl_degraded="2"),
        lambda: KeysSection(cache_ttl="0.1"),
        lambda: KeysSection(max_stale="1"),
        lambda: LimitsSection(chat_bytes=16 * 1024 * 1024),
        lambda: LimitsSection(deadline="0"),
        lambda: ClassRates(key=-1),
        lambda: ClassRates(tenant=1_000_001),
        lambda: RatesSection(replicas=0),
    ],
)
def test_invalid_settings_are_refused(section: object) -> None:
    with pytest.raises(ValidationError):
        section()  # type: ignore[operator]
