"""URLs and addresses are checked when the settings are read; the sentence names the variable and never the password."""

from __future__ import annotations

import certifi
import pytest
from chassis.settings import KafkaSection, PostgresSection, RedisSection, ServiceSettings, load
from chassis.settings.addresses import check_addresses, check_http_url, check_postgres_dsn, check_redis_url
from pydantic import Field
from pydantic_settings import SettingsConfigDict

CA = certifi.where()
SECRET = "a-secret-for-tests-and-nothing-but-tests"


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection = Field(description="The toys' schema.")
    redis: RedisSection = Field(default_factory=RedisSection, description="The toys' cache.")
    kafka: KafkaSection = Field(description="The toys' events.")


GOOD = {
    "TOY_PRINCIPAL__SECRETS": SECRET,
    "TOY_POSTGRES__DSN": "postgresql://toy_app:hunter2@db:5432/argosy",
    "TOY_KAFKA__GROUP": "toy",
    "TOY_KAFKA__SIGNING_KEYS": f"key-1:{SECRET}",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://toy:hunter2@db/argosy",
        f"postgres://toy:p%2Fa%23s%3Fs@[::1]:5432/argosy?sslmode=verify-full&sslrootcert={CA}",
        "postgresql://toy:p@ss@db-1:5432,db-2:5433/argosy?target_session_attrs=read-write",
        "postgresql://toy@/argosy?host=/run/postgresql",
    ],
)
def test_a_good_dsn_is_accepted(dsn: str) -> None:
    check_postgres_dsn(dsn)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        f"rediss://user:p%2Fss@cache.example.com?ssl_ca_certs={CA}&db=3",
        "redis://:p@ss@cache:6379/15",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_good_redis_url_is_accepted(url: str) -> None:
    check_redis_url(url)


@pytest.mark.parametrize("text", ["a:1", "metering-a:9003,metering-b.example.com:9003", "[::1]:9000", "0.0.0.0:9000"])
def test_good_addresses_are_accepted(text: str) -> None:
    check_addresses(text)


@pytest.mark.parametrize("text", ["", "host", "host:", ":9000", "host:99999", "a:1,,b:2", "host:http", "a b:1"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must have a"):
        check_addresses(text)


@pytest.mark.parametrize("url", ["collector:4317", "ftp://collector", "http://", "http://collector:many"])
def test_a_bad_http_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_http_url(url)


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunt/er2@db:5432/argosy", "%2F"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunt#er2@db:5432/argosy", "%23"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunt?er2@db:5432/argosy", "%3F"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunt%er2@db:5432/argosy", "%25"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunt[er2@db:5432/argosy", "%5B"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunter2@db:54x2/argosy", "port"),
        ("TOY_POSTGRES__DSN", "mysql://toy:hunter2@db/argosy", "postgresql://"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunter2@db/argosy?channel_binding=require", "`channel_binding`"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunter2@db/argosy?connect_timeout=3", "`connect_timeout`"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunter2@db/argosy?sslmode=strict", "sslmode"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunter2@db/argosy?sslmode=verify-full", "needs sslrootcert"),
        ("TOY_POSTGRES__DSN", "postgresql://toy:hunter2@db/argosy?sslrootcert=/there/is/none.pem", "can be read"),
        ("TOY_POSTGRES__POOLING", "statement", "'session' or 'transaction'"),
        ("TOY_REDIS__URL", "rediss://:hunter2@cache/0?ssl_ca_certs=/there/is/none.pem", "can be read"),
        ("TOY_REDIS__URL", "redis://:hunter2@cache/0?ssl_cert_reqs=none", "rediss://"),
        ("TOY_POSTGRES__OWNER_DSN", "postgresql://toy:hunt/er2@db/argosy", "%2F"),
        ("TOY_REDIS__URL", "redis://:hunt/er2@cache:6379/0", "%2F"),
        ("TOY_REDIS__URL", "redis://:hunter2@cache:6379/abc", "database"),
        ("TOY_REDIS__URL", "redis://:hunter2@cache:6379/0?socket_timeout=9", "`socket_timeout`"),
        ("TOY_REDIS__URL", "http://:hunter2@cache:6379/0", "redis://"),
        ("TOY_REDIS__URL", "rediss://:hunter2@cache/0?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("TOY_KAFKA__BOOTSTRAP", "kafka", "host:port"),
        ("TOY_KAFKA__BOOTSTRAP", "kafka:9092,", "host:port"),
        ("TOY_KAFKA__SIGNING_KEYS", SECRET, "id:secret"),
        ("TOY_KAFKA__SIGNING_KEYS", "key-1:hunter2", "guessed"),
        ("TOY_KAFKA__SIGNING_KEYS", "key-1:changeme", "placeholder"),
        ("TOY_KAFKA__SIGNING_KEYS", "key-1:hunter2abcdefgh", "32 characters"),
        ("TOY_KAFKA__SIGNING_KEYS", f"key-1:{SECRET},key-1:{SECRET}", "same id"),
        ("TOY_KAFKA__SIGNING_KEYS", "", "at least 1 item"),
        ("TOY_KAFKA__SASL_PASSWORD", "hunter2", "no effect"),
        ("TOY_KAFKA__SASL_MECHANISM", "PLAIN", "no effect"),
        ("TOY_KAFKA__CA_FILE", "/ca.pem", "no effect"),
        ("TOY_TELEMETRY__OTLP_ENDPOINT", "collector:4317", "http://"),
    ],
)
def test_a_wrong_address_is_one_sentence_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SystemExit) as caught:
        load(Settings)

    assert caught.value.code == 78
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"{variable}: ")
    assert complaint in sentence
    assert "hunt" not in sentence
    assert SECRET not in sentence


def test_what_authentication_to_the_brokers_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("TOY_KAFKA__CA_FILE", "/there/is/none.pem")

    with pytest.raises(SystemExit):
        load(Settings)

    sentences = capsys.readouterr().err.splitlines()
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "TOY_KAFKA__SASL_MECHANISM",
        "TOY_KAFKA__SASL_USERNAME",
        "TOY_KAFKA__SASL_PASSWORD",
        "TOY_KAFKA__CA_FILE",
    ]
    assert all("SASL_SSL" in sentence for sentence in sentences[:3])


def test_authentication_to_the_brokers_becomes_the_options_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    from chassis.kafka.broker_security import client_options

    monkeypatch.setenv("TOY_KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("TOY_KAFKA__SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("TOY_KAFKA__SASL_USERNAME", "toy")
    monkeypatch.setenv("TOY_KAFKA__SASL_PASSWORD", "hunter2")

    assert client_options(load(Settings).kafka) == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "toy",
        "sasl_plain_password": "hunter2",
    }
