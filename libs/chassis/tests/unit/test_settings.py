import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from chassis.settings import (
    GrpcSection,
    PeersSection,
    PostgresSection,
    RedisSection,
    Section,
    ServiceSettings,
    load,
    peer_address,
    redacted,
    rows,
    table,
)
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"
NEXT_SECRET = "ffeeddccbbaa99887766554433221100aabbccdd"


class Upstream(Section):
    url: str = Field(description="Where it is.")


class Puppet(Section):
    kind: Literal["puppet"]
    strings: int = Field(description="How many strings it hangs on.")
    wood: str = Field("oak", description="What it is made of.")


class Car(Section):
    kind: Literal["car"]
    wheels: int = Field(4, description="How many wheels it has.")
    wood: str = Field("pine", description="What it is made of.")


class Settings(ServiceSettings):
    """Settings of a service that exists in tests alone."""

    model_config = SettingsConfigDict(env_prefix="TOY_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection = Field(description="Where toys are kept.")
    redis: RedisSection = Field(default_factory=RedisSection, description="Where toys are lost.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="Who may play.")
    timeout: timedelta | None = Field(None, description="How long to wait | at most.")
    upstreams: dict[str, Upstream] = Field(default_factory=dict, description="Whom to ask.")
    toys: dict[str, Annotated[Puppet | Car, Field(discriminator="kind")]] = Field(
        default_factory=dict, description="What there is to play with."
    )

    @model_validator(mode="after")
    def _one_car(self) -> Self:
        if sum(isinstance(toy, Car) for toy in self.toys.values()) > 1:
            raise ValueError("there is room for one car")
        return self


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_PRINCIPAL__SECRETS", SECRET)
    monkeypatch.setenv("TOY_POSTGRES__DSN", "postgresql://toy_app:hunter2@db:5432/argosy")


def refusal(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The output on stderr when the settings are refused."""
    with pytest.raises(SystemExit) as caught:
        load(Settings)
    assert caught.value.code == 78
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_good_settings_are_nested_and_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_GRPC__BIND", "0.0.0.0:9000")
    monkeypatch.setenv("TOY_UPSTREAMS__LOCAL__URL", "http://127.0.0.1:8080")
    settings = load(Settings)

    assert settings.grpc.bind == "0.0.0.0:9000"
    assert settings.upstreams["local"].url == "http://127.0.0.1:8080"
    assert settings.drain == timedelta(seconds=25)
    assert settings.postgres.dsn.get_secret_value() == "postgresql://toy_app:hunter2@db:5432/argosy"


@pytest.mark.parametrize(("written", "seconds"), [("30", 30), ("0.5", 0.5), ("PT2M", 120)])
def test_a_duration_is_written_in_seconds_or_as_iso_8601(
    monkeypatch: pytest.MonkeyPatch, written: str, seconds: float
) -> None:
    monkeypatch.setenv("TOY_DRAIN", written)
    monkeypatch.setenv("TOY_TIMEOUT", written)

    settings = load(Settings)

    assert settings.drain == settings.timeout == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", [f"{SECRET},{NEXT_SECRET}", f" {SECRET} , {NEXT_SECRET},", json.dumps([SECRET, NEXT_SECRET])]
)
def test_several_secrets_are_a_list_with_commas_or_in_json(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("TOY_PRINCIPAL__SECRETS", written)

    secrets = [secret.get_secret_value() for secret in load(Settings).principal.secrets]

    assert secrets == [SECRET, NEXT_SECRET]


def test_each_missing_value_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TOY_PRINCIPAL__SECRETS")
    monkeypatch.delenv("TOY_POSTGRES__DSN")

    assert refusal(capsys) == [
        "TOY_PRINCIPAL__SECRETS: is required and not set.",
        "TOY_POSTGRES__DSN: is required and not set.",
    ]


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("changeme", "placeholder"),
        ("please-ChangeMe-please-changeme-please", "placeholder"),
        ("abcdefgh12345678", "32 characters"),
        ("x" * 40, "guessed"),
        (f"{SECRET},short-but-otherwise-fine", "32 characters"),
        ("", "at least 1 item"),
        ("[", "JSON"),
    ],
)
def test_a_placeholder_secret_is_refused_without_being_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str, complaint: str
) -> None:
    monkeypatch.setenv("TOY_PRINCIPAL__SECRETS", secret)

    (sentence,) = refusal(capsys)

    assert sentence.startswith("TOY_PRINCIPAL__SECRETS: ")
    assert complaint in sentence
    assert len(secret) < 2 or secret not in sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TOY_POSTGRES__POOL_SIZE", "many"),
        ("TOY_OPS__PORT", "99999"),
        ("TOY_TELEMETRY__LOG_LEVEL", "loud"),
        ("TOY_DRAIN", "-3"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    (sentence,) = refusal(capsys)

    assert sentence.startswith(f"{variable}: ")


@pytest.mark.parametrize("variable", ["TOY_POSTGRE__DSN", "TOY_POSTGRES__DNS", "TOY_OPS__PORTS__HTTP"])
def test_a_misspelt_name_is_refused_rather_than_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "7")

    assert any(
        variable.startswith(sentence.removesuffix(": there is no such setting.")) for sentence in refusal(capsys)
    )


def test_what_kubernetes_puts_into_the_environment_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_PORT", "tcp://10.0.0.1:9000")
    monkeypatch.setenv("TOY_SERVICE_HOST", "10.0.0.1")

    load(Settings)


def test_a_mapping_that_is_not_json_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_UPSTREAMS", "{local")

    assert refusal(capsys) == ["TOY_UPSTREAMS: is not JSON."]


def test_a_fault_in_a_section_of_several_kinds_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_TOYS__JACK__KIND", "puppet")
    monkeypatch.setenv("TOY_TOYS__TAXI__KIND", "car")
    monkeypatch.setenv("TOY_TOYS__TAXI__WHEELS", "some")
    monkeypatch.setenv("TOY_TOYS__BALL__SIZE", "3")

    printed = sorted(refusal(capsys))

    assert printed[0] == "TOY_TOYS__BALL__KIND: is required and not set."
    assert printed[1] == "TOY_TOYS__JACK__STRINGS: is required and not set."
    assert printed[2].startswith("TOY_TOYS__TAXI__WHEELS: ")


def test_a_fault_between_settings_is_of_them_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_TOYS__TAXI__KIND", "car")
    monkeypatch.setenv("TOY_TOYS__BUS__KIND", "car")

    assert refusal(capsys) == ["TOY_*: there is room for one car."]


def test_settings_are_frozen() -> None:
    settings = load(Settings)

    with pytest.raises(Exception, match="frozen"):
        settings.drain = timedelta(0)  # type: ignore[misc]
    with pytest.raises(Exception, match="frozen"):
        settings.ops.port = 1  # type: ignore[misc]


def test_printed_settings_hide_secrets_and_the_credentials_of_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_REDIS__URL", "redis://:p@ss@cache:6379/0")
    settings = load(Settings)

    printed = json.dumps(redacted(settings))

    assert redacted(settings)["redis"] == {"url": "redis://**********@cache:6379/0"}
    assert all(secret not in printed + repr(settings) for secret in (SECRET, "hunter2", "p@ss"))


def test_the_reference_has_a_row_for_every_variable() -> None:
    by_variable = {row.variable: row for row in rows(Settings)}

    assert by_variable["TOY_POSTGRES__DSN"].default is None
    assert by_variable["TOY_POSTGRES__DSN"].type == "secret"
    assert by_variable["TOY_POSTGRES__POOL_SIZE"].default == "8"
    assert (by_variable["TOY_DRAIN"].type, by_variable["TOY_DRAIN"].default) == ("seconds", "25")
    assert by_variable["TOY_TIMEOUT"].default == ""
    assert by_variable["TOY_UPSTREAMS__<NAME>__URL"].description == "Where it is."


def test_a_section_of_several_kinds_lists_the_kinds_of_each_setting() -> None:
    by_variable = {row.variable.removeprefix("TOY_TOYS__<NAME>__"): row for row in rows(Settings)}

    assert (by_variable["KIND"].type, by_variable["KIND"].default) == ("`puppet` | `car`", None)
    assert by_variable["STRINGS"].description == "How many strings it hangs on. (`puppet`)"
    assert by_variable["WOOD"].description == "What it is made of."


def test_the_table_keeps_to_its_columns() -> None:
    lines = table(Settings).splitlines()

    assert "| `TOY_TIMEOUT` | seconds |  | How long to wait \\| at most. |" in lines
    description = "Connection URL of the app role, which owns no tables. TLS: `?sslmode=verify-full&sslrootcert=FILE`."
    assert f"| `TOY_POSTGRES__DSN` | secret | required | {description} |" in lines
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}


def test_a_setting_without_a_description_has_no_reference() -> None:
    class Undescribed(ServiceSettings):
        secret_knob: int = 3

    with pytest.raises(TypeError, match="secret_knob"):
        rows(Undescribed)


def test_no_dotenv_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOY_DRAIN=1\n")
    monkeypatch.chdir(tmp_path)

    assert load(Settings).drain == timedelta(seconds=25)


def test_peers_are_a_section_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    class DollPeers(PeersSection):
        metering: str = peer_address("metering")
        retrieval: str = peer_address("retrieval", "127.0.0.1:9004")

    class DollSettings(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="DOLL_", env_nested_delimiter="__", frozen=True)

        peers: DollPeers = Field(description="Other services.")

    monkeypatch.setenv("DOLL_PRINCIPAL__SECRETS", SECRET)
    monkeypatch.setenv("DOLL_PEERS__METERING", "metering-a:9003,metering-b:9003")

    peers = load(DollSettings).peers
    assert (peers.metering, peers.retrieval) == ("metering-a:9003,metering-b:9003", "127.0.0.1:9004")
    listed = {row.variable: row for row in rows(DollSettings)}
    assert listed["DOLL_PEERS__METERING"].default is None
    assert listed["DOLL_PEERS__RETRIEVAL"].default == "127.0.0.1:9004"
