"""The command creates the topics of the list, and the same for further pools."""

import argparse
from pathlib import Path

import pytest
from chassis.errors import InvalidRequest
from orchestrator.topics.cli import add_topics_arguments, wanted_topics

FOLDER = Path(__file__).parents[5] / "proto/topics"
DISPATCHED = "argosy.orchestration.job-dispatched.v1"


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_topics_arguments(parser)
    return parser.parse_args(arguments)


def test_without_pools_the_topics_are_those_of_the_list() -> None:
    assert len(wanted_topics(FOLDER, [])) == len(list(FOLDER.glob("*.yaml")))


def test_each_further_pool_has_topics_for_its_three_lanes() -> None:
    arguments = parse("--folder", str(FOLDER), "--pool", "premium", "--pool", "acme")

    names = {topic.name for topic in wanted_topics(arguments.folder, arguments.pools)}

    lanes = ("interactive", "standard", "batch")
    pools = ("default", "premium", "acme")
    assert {name for name in names if name.startswith(DISPATCHED)} == {
        f"{DISPATCHED}.{pool}.{lane}" for pool in pools for lane in lanes
    }


def test_a_folder_without_topics_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=str(tmp_path)):
        wanted_topics(tmp_path, [])
