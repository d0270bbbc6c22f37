from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from argosy_dev.errors import CliError, PortTaken
from argosy_dev.fleet import ports
from argosy_dev.fleet.paths import FleetPaths


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_assigned_ports_do_not_change() -> None:
    assert ports.assign(["redis"], {"redis": 1234}) == {"redis": 1234}


def test_each_name_gets_a_different_port() -> None:
    names = [f"part{number}" for number in range(50)]

    assert len(set(ports.assign(names, {}).values())) == 50


def test_ports_are_below_the_ephemeral_range() -> None:
    chosen = ports.assign(["a", "b", "c"], {})

    assert all(port in ports.RANGE for port in chosen.values())


@pytest.fixture
def default_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetPaths:
    """The paths of the repository's own fleet."""
    paths = FleetPaths(tmp_path, tmp_path)
    monkeypatch.setattr(FleetPaths, "from_environment", lambda _: paths)
    return paths


def test_the_gateway_of_the_default_fleet_has_the_well_known_port(
    default_fleet: FleetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ports.assign(["gateway"], {})
    monkeypatch.setattr(ports, "WELL_KNOWN", known)

    assert ports.load(default_fleet, ["gateway"]) == known


def test_a_well_known_port_in_use_is_skipped(
    default_fleet: FleetPaths, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "WELL_KNOWN", {"gateway": taken})

    assert ports.load(default_fleet, ["gateway"])["gateway"] in ports.RANGE


def test_another_fleet_does_not_use_the_well_known_port(paths: FleetPaths) -> None:
    assert ports.load(paths, ["gateway"])["gateway"] in ports.RANGE


def test_two_fleets_get_ports_of_different_blocks() -> None:
    one, two = (
        ports._first_port(FleetPaths(Path(name), Path(name))) for name in ("/clone/.argosy", "/clone/.argosy/test")
    )

    assert abs(one - two) >= 32
    assert {one, two} < set(ports.RANGE)


def test_later_starts_use_the_ports_of_the_first(paths: FleetPaths) -> None:
    first = ports.load(paths, ["gateway", "redis"])

    assert ports.load(paths, ["gateway", "redis"]) == first


def test_a_new_part_does_not_change_the_ports_of_others(paths: FleetPaths) -> None:
    first = ports.load(paths, ["redis"])

    assert ports.load(paths, ["redis", "kafka"])["redis"] == first["redis"]


@pytest.mark.parametrize("value", ["eighty", "0", "65536", "-1", ""])
def test_an_invalid_port_number_is_an_error_that_names_the_file(paths: FleetPaths, value: str) -> None:
    paths.ports.write_text(f"redis={value}\n")

    with pytest.raises(CliError, match=f"{paths.ports} gives redis the port '{value}'"):
        ports.load(paths, ["redis"])


def test_a_port_in_use_is_an_error_that_names_the_process_and_the_fix(paths: FleetPaths, taken: int) -> None:
    with pytest.raises(PortTaken) as error:
        ports.check_free(paths, {"gateway": taken})

    sentence = str(error.value)
    assert f"Port {taken} for gateway is in use by" in sentence
    assert f"(process {os.getpid()})" in sentence
    assert f"change gateway= in {paths.ports}" in sentence


def test_a_free_port_is_no_error(paths: FleetPaths, taken: int) -> None:
    ports.check_free(paths, ports.assign(["redis"], {}))
