"""Evaluates PromQL over labels instead of samples: which metrics an expression reads, and which labels its result has.

It knows the part of the language that the rules and dashboards of `ops/` use, and refuses the rest by name. Beyond the
syntax, which `promtool` checks, it finds what evaluates to nothing: a metric or label that no service has, a value that
no code sets, a bucket that a histogram has not, a rate of a gauge, and two sides whose labels never match.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from scripts.ops_lint.catalog import Catalog
from scripts.ops_lint.tokens import END, PromqlError, TokenReader

AGGREGATIONS: Final = ("sum", "avg", "min", "max", "count", "topk", "bottomk", "quantile", "group", "stddev")
OF_COUNTERS: Final = ("rate", "increase", "irate", "resets")
OF_GAUGES: Final = ("delta", "deriv", "predict_linear")
OF_RANGES: Final = (
    *OF_COUNTERS, *OF_GAUGES, "changes", "avg_over_time", "min_over_time", "max_over_time", "sum_over_time",
    "count_over_time", "last_over_time", "quantile_over_time", "present_over_time",
)  # fmt: skip
OF_VECTORS: Final = ("abs", "ceil", "floor", "round", "clamp_min", "clamp_max", "sort", "sort_desc", "timestamp")
PRECEDENCE: Final = (
    ("or",),
    ("and", "unless"),
    ("==", "!=", "<=", "<", ">=", ">"),
    ("+", "-"),
    ("*", "/", "%"),
    ("^",),
)
ALTERNATIVES: Final = re.compile(r"[\w./{}-]+(\|[\w./{}-]+)*")


@dataclass(frozen=True, slots=True)
class Value:
    """The type of an expression: a scalar has no labels."""

    labels: frozenset[str] | None
    kind: str = ""
    is_range: bool = False

    @property
    def vector(self) -> frozenset[str]:
        if self.labels is None:
            raise PromqlError("a vector is needed, not a number")
        return self.labels


@dataclass(slots=True)
class Query:
    """What one expression reads, and the labels of its result."""

    labels: frozenset[str] = frozenset()
    names: set[str] = field(default_factory=set)
    metrics: set[str] = field(default_factory=set)


SCALAR: Final = Value(None)


def analyze(text: str, catalog: Catalog) -> Query:
    """Raises PromqlError, with a sentence that names what is wrong."""
    parser = _Parser(text, catalog)
    value = parser.expression()
    if parser.tokens.next is not END:
        raise PromqlError(f"{parser.tokens.next.text!r} was not expected")
    if value.is_range:
        raise PromqlError("the result is a range")
    parser.query.labels = value.labels or frozenset()
    return parser.query


class _Parser:
    def __init__(self, text: str, catalog: Catalog) -> None:
        self.tokens = TokenReader(text)
        self.query = Query()
        self._catalog = catalog

    def expression(self, level: int = 0) -> Value:
        if level == len(PRECEDENCE):
            return self._unary()
        left = self.expression(level + 1)
        while (operator := self.tokens.accept(*PRECEDENCE[level])) is not None:
            left = self._binary(operator, left, level)
        return left

    def _binary(self, operator: str, left: Value, level: int) -> Value:
        self.tokens.accept("bool")
        matching = self.tokens.accept("on", "ignoring")
        named = self._names() if matching else frozenset()
        group = self.tokens.accept("group_left", "group_right")
        added = self._names() if group and self.tokens.next.text == "(" else frozenset()
        right = self.expression(level + 1)
        if left.labels is None or right.labels is None:
            return Value(left.labels if right.labels is None else right.labels)
        if operator == "or":
            return Value(left.labels | right.labels)
        one, many = (left.labels, right.labels) if group == "group_right" else (right.labels, left.labels)
        self._check_match(matching, named, left.labels, right.labels)
        if operator in {"and", "unless"}:
            return Value(left.labels)
        if group:
            self._check_has(one, added, "the side of one")
            return Value(many | added)
        return Value({"on": named, "ignoring": left.labels - named, None: left.labels}[matching])

    def _check_match(
        self, matching: str | None, named: frozenset[str], left: frozenset[str], right: frozenset[str]
    ) -> None:
        if matching == "on":
            self._check_has(left, named, "the left side")
            self._check_has(right, named, "the right side")
        elif left - named != right - named:
            different = ", ".join(sorted((left ^ right) - named))
            raise PromqlError(f"both sides never match: only one of them has {different}")

    def _unary(self) -> Value:
        self.tokens.accept("-", "+")
        value = self._primary()
        while (modifier := self.tokens.accept("[", "offset", "@")) is not None:
            if modifier == "[":
                value = self._range(value)
            else:
                self.tokens.accept("-")
                self.tokens.take()
        return value

    def _range(self, value: Value) -> Value:
        self.tokens.take()
        if self.tokens.accept(":") and self.tokens.next.kind == "number":
            self.tokens.take()
        self.tokens.expect("]")
        return Value(value.vector, value.kind, is_range=True)

    def _primary(self) -> Value:
        token = self.tokens.next
        if self.tokens.accept("("):
            value = self.expression()
            self.tokens.expect(")")
            return value
        if token.kind in {"number", "string"}:
            return Value(None, self.tokens.take().text)
        if token.kind != "word":
            raise PromqlError(f"{token.text or 'the end'!r} was not expected")
        name = self.tokens.take().text
        if name.lower() in AGGREGATIONS and self.tokens.next.text in {"(", "by", "without"}:
            return self._aggregation(name.lower())
        return self._function(name) if self.tokens.next.text == "(" else self._selector(name)

    def _aggregation(self, name: str) -> Value:
        grouping, names = self._grouping()
        value = self._arguments()[-1]
        if grouping is None:
            grouping, names = self._grouping()
        if name in {"topk", "bottomk"}:
            return Value(value.vector)
        if grouping == "without":
            return Value(value.vector - names)
        self._check_has(value.vector, names, "what is aggregated")
        return Value(names)

    def _grouping(self) -> tuple[str | None, frozenset[str]]:
        grouping = self.tokens.accept("by", "without")
        return grouping, self._names() if grouping else frozenset()

    def _function(self, name: str) -> Value:
        if name == "time":
            self._arguments()
            return SCALAR
        arguments = self._arguments()
        if name in OF_RANGES:
            return self._over_range(name, arguments)
        if name == "histogram_quantile":
            self._check_has(arguments[1].vector, frozenset({"le"}), "what histogram_quantile reads")
            return Value(arguments[1].vector - {"le"})
        if name in {"absent", "vector"}:
            return Value(frozenset())
        if name == "label_replace":
            return Value(arguments[0].vector | {arguments[1].kind[1:-1]})
        if name == "scalar":
            return SCALAR
        if name in OF_VECTORS:
            return Value(arguments[0].labels)
        raise PromqlError(f"the function {name} is not known here")

    def _over_range(self, name: str, arguments: list[Value]) -> Value:
        of = next((argument for argument in arguments if argument.is_range), None)
        if of is None:
            raise PromqlError(f"{name} needs a range such as [5m]")
        if name in OF_COUNTERS and of.kind not in {"counter", ""}:
            raise PromqlError(f"{name} is for counters, and this is a {of.kind}")
        if name in OF_GAUGES and of.kind not in {"gauge", ""}:
            raise PromqlError(f"{name} is for gauges, and this is a {of.kind}")
        return Value(of.vector, "gauge")

    def _arguments(self) -> list[Value]:
        self.tokens.expect("(")
        values: list[Value] = []
        while not self.tokens.accept(")"):
            values.append(self.expression())
            if not self.tokens.accept(","):
                self.tokens.expect(")")
                break
        return values

    def _names(self) -> frozenset[str]:
        self.tokens.expect("(")
        names = set()
        while not self.tokens.accept(")"):
            names.add(self.tokens.take().text)
            self.tokens.accept(",")
        return frozenset(names)

    def _selector(self, name: str) -> Value:
        series = self._catalog.series.get(name)
        if series is None:
            raise PromqlError(f"no service declares {name}, and no rule records it")
        self.query.names.add(name)
        self.query.metrics |= series.metrics
        if self.tokens.accept("{"):
            while not self.tokens.accept("}"):
                label, operator = self.tokens.take().text, self.tokens.take().text
                self._check_has(series.labels, frozenset({label}), name)
                self._check_value(name, label, operator, self.tokens.take().text[1:-1])
                self.tokens.accept(",")
        return Value(series.labels, series.kind)

    def _check_value(self, name: str, label: str, operator: str, value: str) -> None:
        if label == "le" and operator == "=" and value not in self._catalog.series[name].buckets:
            raise PromqlError(f"{name} has no bucket {value}")
        regular = operator in {"=~", "!~"}
        if "$" in value or (regular and not ALTERNATIVES.fullmatch(value)):
            return
        for single in value.split("|") if regular else [value]:
            if not self._catalog.has_value(label, single):
                raise PromqlError(f"no code sets {label} of {name} to {single!r}")

    @staticmethod
    def _check_has(labels: frozenset[str], wanted: frozenset[str], what: str) -> None:
        if missing := wanted - labels:
            raise PromqlError(f"{what} has no label {', '.join(sorted(missing))}")
