"""Decides about each top-level field of a request by the table of fields."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Never

from chassis.errors import InvalidRequest

from orchestrator.chat.field_table import ALLOWED_VALUES, FIELDS, FREE_TOOLS, Treatment
from orchestrator.routing.model import RouteCandidate, UnknownFields

MAX_WARNINGS = 10
MAX_NAME_CHARACTERS = 64


def _plain(name: str) -> str:
    """Return a name without case and separators, in which two spellings of one name are equal."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


_BY_PLAIN_NAME = {_plain(name): name for name in FIELDS}
_UNCHECKED = frozenset(
    name
    for name, field in FIELDS.items()
    if field.treatment is not Treatment.REFUSED and field.providers is None and name not in {*ALLOWED_VALUES, "tools"}
)


def check_fields(document: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names that some candidate may not get: unknown ones, and those of a single provider's API.

    Raises `InvalidRequest` for a field that is refused, for a value that is, and for another spelling of a known name:
    some upstream may read it as that name, past our limits.
    """
    names = document.keys() - _UNCHECKED
    return tuple(sorted(name for name in names if _check_field(name, document[name])))


def _check_field(name: str, value: object) -> bool:
    field = FIELDS.get(name)
    if field is None:
        known = _BY_PLAIN_NAME.get(_plain(name))
        if known is not None:
            _refuse(name, f"is not a field; is it {known}?")
        return True
    if field.treatment is Treatment.REFUSED:
        _refuse(name, f"is refused: {field.why}")
    if name in ALLOWED_VALUES:
        _check_value(name, value)
    elif name == "tools":
        _check_tools(value)
    return field.providers is not None


def _check_value(name: str, value: object) -> None:
    allowed, why = ALLOWED_VALUES[name]
    values = value if isinstance(value, list) else [value]
    if value is not None and not all(one in allowed for one in values):
        _refuse(name, f"can only be {' or '.join(allowed)}: {why}")


def _check_tools(tools: object) -> None:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict) or tool.get("type") not in tuple(FREE_TOOLS):
            types = " or ".join(sorted(FREE_TOOLS))
            _refuse(f"tools[{index}].type", f"can only be {types}: other tools are charged beside the tokens")


def fields_to_drop(special: Sequence[str], candidate: RouteCandidate, default: UnknownFields) -> tuple[str, ...]:
    """Return which of the names that `check_fields` returned this candidate does not get."""
    if not special or (candidate.unknown_fields or default) is UnknownFields.PASS:
        return ()
    return tuple(name for name in special if not _documented(name, candidate))


def _documented(name: str, candidate: RouteCandidate) -> bool:
    field = FIELDS.get(name)
    if field is None:
        return False
    # Without a provider the candidate may be of any.
    return field.providers is None or candidate.provider is None or candidate.provider in field.providers


def drop_warnings(dropped: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each dropped field, at most `MAX_WARNINGS`."""
    names = sorted(set(dropped))
    if not names:
        return ()
    shown = names if len(names) <= MAX_WARNINGS else names[: MAX_WARNINGS - 1]
    sentences = [f"The field {_short(name)} was dropped: the model's API does not have it." for name in shown]
    if len(shown) < len(names):
        sentences.append(f"{len(names) - len(shown)} more fields were dropped.")
    return tuple(sentences)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARACTERS else name[: MAX_NAME_CHARACTERS - 1] + "…"


def _refuse(name: str, why: str) -> Never:
    short = _short(name)
    raise InvalidRequest(f"{short} {why}", param=short)
