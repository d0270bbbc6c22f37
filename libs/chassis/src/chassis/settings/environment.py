"""Reading a service's settings from the environment."""

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

from chassis.settings.nesting import follow, required_below
from chassis.settings.sections import Durations, OpsSection, PrincipalSection, TelemetrySection

EX_CONFIG = 78  # sysexits.h: configuration error
# Up to the last @, since a password may contain one; this may hide too much but never too little.
CREDENTIALS = re.compile(r"(?<=://)\S+(?=@)")

S = TypeVar("S", bound="ServiceSettings")


class ServiceSettings(Durations, BaseSettings):
    """Settings of every service. Each adds its own, with its own prefix; only `main` reads them."""

    model_config = SettingsConfigDict(env_nested_delimiter="__", frozen=True)

    ops: OpsSection = Field(default_factory=OpsSection, description="Health, readiness and metrics.")
    telemetry: TelemetrySection = Field(default_factory=TelemetrySection, description="Logs and traces.")
    principal: PrincipalSection = Field(description="How services authenticate callers to one another.")
    drain: timedelta = Field(
        timedelta(seconds=25),
        ge=timedelta(0),
        description="Time to finish after SIGTERM; stays below the pod's grace period.",
    )


def load(cls: type[S]) -> S:
    """Read the settings, or print a sentence per error on stderr and exit with 78. Values are never printed."""
    problems = unknown_names(cls)
    try:
        settings = cls()
    except ValidationError as error:
        problems += [sentence for problem in error.errors() for sentence in _sentences(cls, problem)]
    except SettingsError as error:
        problems.append(_invalid_json(cls, str(error)))
    if problems:
        _exit_with(problems)
    return settings


def variable(cls: type[ServiceSettings], *path: str) -> str:
    """Return the environment variable of a setting: `METERING_POSTGRES__DSN`."""
    return (cls.model_config.get("env_prefix", "") + "__".join(path)).upper()


def unknown_names(cls: type[ServiceSettings]) -> list[str]:
    """Return a sentence per variable that looks like a nested setting of this service but is none: a misspelling."""
    prefix = variable(cls)
    known = {name.upper() for name in cls.model_fields}
    return [
        f"{name}: there is no such setting."
        for name in sorted(os.environ)
        # Kubernetes itself sets variables such as METERING_PORT; none of them has two underscores in a row.
        if prefix and name.upper().startswith(prefix) and "__" in name
        if name.upper().removeprefix(prefix).split("__")[0] not in known
    ]


def redacted(settings: ServiceSettings) -> dict[str, Any]:
    """Return the settings as JSON values, without secrets and without the credentials in URLs."""
    dumped: dict[str, Any] = _without_credentials(settings.model_dump(mode="json"))
    return dumped


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_credentials(inner) for inner in value]
    return CREDENTIALS.sub("**********", value) if isinstance(value, str) else value


def _sentences(cls: type[ServiceSettings], problem: ErrorDetails) -> Iterator[str]:
    path, annotation = follow(cls, problem["loc"])
    match problem["type"]:
        case "missing":
            for leaf in required_below(path, annotation):
                yield f"{variable(cls, *leaf)}: is required and not set."
        case "extra_forbidden":
            yield f"{variable(cls, *path)}: there is no such setting."
        case "union_tag_not_found":
            yield f"{variable(cls, *path, problem['ctx']['discriminator'].strip(chr(39)))}: is required and not set."
        case _:
            # A problem that concerns several settings has no path.
            name = variable(cls, *path) if path else f"{variable(cls)}*"
            yield f"{name}: {problem['msg'].removeprefix('Value error, ')}."


def _invalid_json(cls: type[ServiceSettings], message: str) -> str:
    # Lists and mappings in one variable are JSON. pydantic-settings names the invalid one only in its message.
    named = re.search(r'field "(\w+)"', message)
    return f"{variable(cls, named[1])}: is not JSON." if named else f"{message}."


def _exit_with(problems: list[str]) -> NoReturn:
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.exit(EX_CONFIG)
