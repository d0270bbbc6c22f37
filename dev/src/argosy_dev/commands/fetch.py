"""`fetch`: downloads Kafka's jars and converts the models. `make setup` runs it; the fleet then needs no network."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts import kafka_jars
from argosy_dev.parts.models.convert import convert_models


def fetch(paths: FleetPaths, report: Callable[[str], None]) -> None:
    """Download and convert what is missing; idempotent."""
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(kafka_jars.fetch, paths.jars, report)
        convert_models(paths, report)
        download.result()
