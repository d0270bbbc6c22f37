"""A service's settings: from the environment, or not at all."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from chassis.settings.sections import Durations, OpsSection, PrincipalSection, TelemetrySection
from chassis.settings.shapes import follow, required_below

EX_CONFIG = 78  # sysexits.h: something is wrong with the configuration
# As far as the last @, since a password may have one; what is hidden may only be too much.
CREDENTIALS = re.compile(r"(?<=://)\S+(?=@)")

S = TypeVar("S", bound="ServiceSettings")


class ServiceSettings(Durations, BaseSettings):
    """What every service has. Each adds its own, under its own prefix; `main` alone reads them."""

    model_config = SettingsConfigDict(env_nested_delimiter="__", frozen=True)

    ops: OpsSection = Field(default_factory=OpsSection, description="Health, readiness and metrics.")
    telemetry: TelemetrySection = Field(default_factory=TelemetrySection, description="Logs and traces.")
    principal: PrincipalSection = Field(description="How services prove who asks.")
    drain: timedelta = Field(
        timedelta(seconds=25),
        ge=timedelta(0),
        description="Time to finish after SIGTERM; stays below the pod's grace period.",
    )


def load(cls: type[S]) -> S:
    """Read the settings, or print a sentence per fault on stderr and exit with 78. Values are never printed."""
    faults = unknown_names(cls)
    try:
        settings = cls()
    except ValidationError as error:
        faults += [sentence for fault in error.errors() for sentence in _sentences(cls, fault)]
    except SettingsError as error:
        faults.append(_unparsed(cls, str(error)))
    if faults:
        _refuse(faults)
    return settings


def variable(cls: type[ServiceSettings], *place: str) -> str:
    """The environment variable of a setting, by its place: `METERING_POSTGRES__DSN`."""
    return (cls.model_config.get("env_prefix", "") + "__".join(place)).upper()


def unknown_names(cls: type[ServiceSettings]) -> list[str]:
    """A sentence for each variable that looks like a nested setting of this service, and is none: a typing error."""
    prefix = variable(cls)
    known = {name.upper() for name in cls.model_fields}
    return [
        f"{name}: there is no such setting."
        for name in sorted(os.environ)
        # Kubernetes sets variables such as METERING_PORT itself; none of them has two underscores in a row.
        if prefix and name.upper().startswith(prefix) and "__" in name
        if name.upper().removeprefix(prefix).split("__")[0] not in known
    ]


def redacted(settings: ServiceSettings) -> dict[str, Any]:
    """The settings as JSON values, without secrets and without the credentials in URLs."""
    dumped: dict[str, Any] = _without_credentials(settings.model_dump(mode="json"))
    return dumped


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_credentials(inner) for inner in value]
    return CREDENTIALS.sub("**********", value) if isinstance(value, str) else value


def _sentences(cls: type[ServiceSettings], fault: ErrorDetails) -> Iterator[str]:
    place, annotation = follow(cls, fault["loc"])
    match fault["type"]:
        case "missing":
            for leaf in required_below(place, annotation):
                yield f"{variable(cls, *leaf)}: is required and not set."
        case "extra_forbidden":
            yield f"{variable(cls, *place)}: there is no such setting."
        case "union_tag_not_found":
            yield f"{variable(cls, *place, fault['ctx']['discriminator'].strip(chr(39)))}: is required and not set."
        case _:
            # A fault between several settings has no place.
            name = variable(cls, *place) if place else f"{variable(cls)}*"
            yield f"{name}: {fault['msg'].removeprefix('Value error, ')}."


def _unparsed(cls: type[ServiceSettings], message: str) -> str:
    # A list or a mapping as one variable is JSON; pydantic-settings says which one is not in words of its own.
    named = re.search(r'field "(\w+)"', message)
    return f"{variable(cls, named[1])}: is not JSON." if named else f"{message}."


def _refuse(faults: list[str]) -> NoReturn:
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    sys.exit(EX_CONFIG)
