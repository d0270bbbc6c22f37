from __future__ import annotations

import pytest
from argosy_dev.errors import CliError
from argosy_dev.parts.replicas import SERVICES
from argosy_dev.seed.run import FILES, seed


def test_each_service_with_a_seed_step_has_a_file() -> None:
    assert FILES.keys() == {service.name for service in SERVICES if service.seeded}


def test_a_seed_needs_the_address_of_the_owner() -> None:
    with pytest.raises(CliError, match="ORCHESTRATOR_POSTGRES__OWNER_DSN is not set"):
        seed(("orchestrator",), {})


def test_a_service_without_demo_data_is_an_error_that_names_the_others() -> None:
    with pytest.raises(CliError, match="no demo data for 'gateway'; there is for metering, orchestrator"):
        seed(("gateway",), {})
