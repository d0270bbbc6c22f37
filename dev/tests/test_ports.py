from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from argosy_dev import ports
from argosy_dev.refusals import PortTaken, Refusal
from argosy_dev.state import Home


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_ports_that_are_given_stay_as_they_are() -> None:
    assert ports.assign(["redis"], {"redis": 1234}) == {"redis": 1234}


def test_every_name_gets_a_port_of_its_own() -> None:
    names = [f"part{number}" for number in range(50)]

    assert len(set(ports.assign(names, {}).values())) == 50


def test_ports_come_from_below_those_that_the_kernel_lends_to_clients() -> None:
    chosen = ports.assign(["a", "b", "c"], {})

    assert all(port in ports.RANGE for port in chosen.values())


@pytest.fixture
def clones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that is the clone's own."""
    home = Home(tmp_path, tmp_path)
    monkeypatch.setattr(Home, "of_environment", lambda _: home)
    return home


def test_the_gateway_of_the_clones_own_fleet_has_the_well_known_port(
    clones_own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ports.assign(["gateway"], {})
    monkeypatch.setattr(ports, "WELL_KNOWN", known)

    assert ports.load(clones_own, ["gateway"]) == known


def test_a_well_known_port_that_is_taken_is_passed_over(
    clones_own: Home, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "WELL_KNOWN", {"gateway": taken})

    assert ports.load(clones_own, ["gateway"])["gateway"] in ports.RANGE


def test_another_fleet_of_the_clone_leaves_the_well_known_port_alone(home: Home) -> None:
    assert ports.load(home, ["gateway"])["gateway"] in ports.RANGE


def test_homes_that_start_by_turns_do_not_get_the_same_ports() -> None:
    one, two = (ports._start(Home(Path(name), Path(name))) for name in ("/clone/.argosy", "/clone/.argosy/test"))

    assert abs(one - two) >= 32
    assert {one, two} < set(ports.RANGE)


def test_the_first_start_decides_for_all_later_ones(home: Home) -> None:
    first = ports.load(home, ["gateway", "redis"])

    assert ports.load(home, ["gateway", "redis"]) == first


def test_a_new_part_gets_a_port_and_the_others_keep_theirs(home: Home) -> None:
    first = ports.load(home, ["redis"])

    assert ports.load(home, ["redis", "kafka"])["redis"] == first["redis"]


@pytest.mark.parametrize("value", ["eighty", "0", "65536", "-1", ""])
def test_what_is_no_port_number_is_refused_with_the_file_that_has_it(home: Home, value: str) -> None:
    home.ports.write_text(f"redis={value}\n")

    with pytest.raises(Refusal, match=f"{home.ports} gives redis the port '{value}'"):
        ports.load(home, ["redis"])


def test_a_port_in_use_is_refused_with_its_holder_and_the_way_out(home: Home, taken: int) -> None:
    with pytest.raises(PortTaken) as refusal:
        ports.refuse_taken(home, {"gateway": taken})

    sentence = str(refusal.value)
    assert f"Port {taken} for gateway is in use by" in sentence
    assert f"(process {os.getpid()})" in sentence
    assert f"change gateway= in {home.ports}" in sentence


def test_a_free_port_is_not_refused(home: Home, taken: int) -> None:
    ports.refuse_taken(home, ports.assign(["redis"], {}))
