"""Filters over attributes as SQL. Keys and values are parameters; only the shape of a filter shapes the statement."""

from collections.abc import Callable

import orjson
from values.attributes import OF_LISTS, AttributeValue, Comparison, Filter, Group, Operator

Parameter = str | list[str]

_ORDER = {Operator.GT: ">", Operator.GTE: ">=", Operator.LT: "<", Operator.LTE: "<="}


def to_condition(given: Filter, first_parameter: int) -> tuple[str, list[Parameter]]:
    """A condition on the column `attributes`, with its parameters. It is true or false and never NULL."""
    parameters: list[Parameter] = []

    def add(parameter: Parameter) -> str:
        parameters.append(parameter)
        return f"${first_parameter + len(parameters) - 1}"

    return _condition(given, add), parameters


def _condition(given: Filter, add: Callable[[Parameter], str]) -> str:
    if isinstance(given, Group):
        joined = (" AND " if given.needs_all else " OR ").join(_condition(part, add) for part in given.filters)
        return f"({joined})"
    attribute = f"attributes -> {add(given.key)}::text"
    if given.operator in _ORDER:
        return _order(given, attribute, add)
    if given.operator in OF_LISTS:
        equal = f"{attribute} = ANY({add([_json(value) for value in given.values])}::jsonb[])"
    else:
        equal = f"{attribute} = {add(_json(given.values[0]))}::jsonb"
    # IS TRUE, because a comparison with an attribute that is not there is NULL, and so is its negation.
    return f"({equal}) IS {'NOT ' if given.operator in (Operator.NE, Operator.NIN) else ''}TRUE"


def _order(given: Comparison, attribute: str, add: Callable[[Parameter], str]) -> str:
    """Values of another type have no order: jsonb would order them by their types."""
    [value] = given.values
    sign = _ORDER[given.operator]
    if isinstance(value, str):
        # By code point in every database. The collation of jsonb's own strings is that of the database.
        ordered = f"({attribute} #>> '{{}}') COLLATE \"C\" {sign} {add(value)}::text"
        return f"(jsonb_typeof({attribute}) = 'string' AND {ordered}) IS TRUE"
    return f"(jsonb_typeof({attribute}) = 'number' AND {attribute} {sign} {add(_json(value))}::jsonb) IS TRUE"


def _json(value: AttributeValue) -> str:
    return orjson.dumps(value).decode()
