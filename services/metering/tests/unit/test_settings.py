from datetime import timedelta

import pytest
from metering.settings import Settings
from pydantic import ValidationError
from values.usage import ExposureCause

REQUIRED = {
    "METERING_POSTGRES__DSN": "postgresql://metering_app@127.0.0.1/argosy",
    "METERING_PRINCIPAL__SECRETS": "a-secret-of-forty-characters-for-a-test!",
    "METERING_KAFKA__SIGNING_KEYS": "key-1:a-secret-of-forty-characters-for-a-test!",
}


def read(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Settings:
    for name, value in {**REQUIRED, **changes}.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_only_the_database_and_the_secret_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert settings.kafka.group == "metering"
    assert settings.budgets.soft_limit_percent == 80
    assert settings.reservations.default_lease == timedelta(minutes=10)
    assert settings.redis is None


def test_one_setting_of_a_section_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, METERING_KAFKA__BOOTSTRAP="kafka:9092", METERING_SWEEPER__MAX_BATCH="7")
    assert (settings.kafka.bootstrap, settings.kafka.group) == ("kafka:9092", "metering")
    assert (settings.sweeper.max_batch, settings.sweeper.interval) == (7, timedelta(seconds=5))


def test_redis_is_used_when_its_url_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = read(monkeypatch, METERING_REDIS__URL="redis://redis:6379/0").redis
    assert redis is not None
    assert redis.url == "redis://redis:6379/0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METERING_BUDGETS__DEFAULT_CAP_NANO_USD", "-1"),
        ("METERING_BUDGETS__DEFAULT_CAP_NANO_USD", str(2**63)),
        ("METERING_BUDGETS__SOFT_LIMIT_PERCENT", "0"),
        ("METERING_RESERVATIONS__DEFAULT_LEASE", "PT0S"),
        ("METERING_RESERVATIONS__MAX_LEASE", "PT1M"),
        ("METERING_SWEEPER__INTERVAL", "PT0S"),
        ("METERING_SETTLEMENT__MAX_BATCH", "0"),
        ("METERING_PRICES_TTL", "-PT1S"),
    ],
)
def test_a_setting_out_of_range_refuses_to_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        read(monkeypatch, **{name: value})


def test_no_setting_is_changed_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        read(monkeypatch).drain = timedelta(0)  # type: ignore[misc]


def test_what_counts_against_the_cap_is_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch).exposure.counted_causes == {ExposureCause.CLIENT}
    every = read(monkeypatch, METERING_EXPOSURE__COUNTED_CAUSES='["client", "provider", "fleet"]')
    assert every.exposure.counted_causes == set(ExposureCause)
    assert read(monkeypatch, METERING_EXPOSURE__COUNTED_CAUSES="[]").exposure.counted_causes == set()
    with pytest.raises(ValidationError):
        read(monkeypatch, METERING_EXPOSURE__COUNTED_CAUSES='["somebody"]')
