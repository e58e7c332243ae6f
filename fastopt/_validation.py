"""Parameters validated, with one message: `<name> must be <rule>; got <value!r>.`, and a remedy where one helps."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any, NoReturn

__all__ = [
    "as_float", "check_between", "check_bool", "check_choice", "check_fraction", "check_integer", "check_positive",
    "check_real", "fail",
]  # fmt: skip


def fail(name: str, rule: str, value: object, remedy: str = "", error: type[Exception] = ValueError) -> NoReturn:
    """Raises the one message; `remedy` is a sentence of its own."""
    if isinstance(value, int) and value.bit_length() > 1024:  # hundreds of digits, and Python refuses to write 4,301
        got = f"an integer of {value.bit_length():,} bits"
    else:
        got = repr(value)
    raise error(f"{name} must be {rule}; got {got}." + (f" {remedy}" if remedy else ""))


def as_float(value: Any) -> float:
    """A real number as a float: infinite where it is beyond the largest one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_number(value: Any, kind: type) -> bool:
    if type(value) is int or (type(value) is float and kind is numbers.Real):  # abstract classes take their time
        return True
    return isinstance(value, kind) and not isinstance(value, bool)


def check_real(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, remedy: str = "", *, finite: bool = True
) -> None:
    """A real number in [low, high]."""
    number = _is_number(value, numbers.Real)
    if number and low <= value <= high and not (finite and math.isinf(as_float(value))):
        return
    rule = "a finite number" if finite else "a number"
    if low > -math.inf and high < math.inf:
        rule = f"a number in [{low:g}, {high:g}]"
    elif low > -math.inf:
        rule += f" >= {low:g}"
    elif high < math.inf:
        rule += f" <= {high:g}"
    fail(name, rule, value, remedy, ValueError if number else TypeError)


def check_positive(name: str, value: Any, remedy: str = "", *, finite: bool = True) -> None:
    """A real number > 0."""
    rule = "a finite number > 0" if finite else "a number > 0"
    if not _is_number(value, numbers.Real):
        fail(name, rule, value, remedy, TypeError)
    if not value > 0 or (finite and math.isinf(as_float(value))):
        fail(name, rule, value, remedy)


def check_fraction(name: str, value: Any, remedy: str = "") -> None:
    """A real number in [0, 1)."""
    rule = "a number in [0, 1)"
    if not _is_number(value, numbers.Real):
        fail(name, rule, value, remedy, TypeError)
    if not 0 <= value < 1:
        fail(name, rule, value, remedy)


def check_between(name: str, value: Any, low: float, high: float, remedy: str = "") -> None:
    """A real number in (low, high)."""
    rule = f"a number in ({low:g}, {high:g})"
    if not _is_number(value, numbers.Real):
        fail(name, rule, value, remedy, TypeError)
    if not low < value < high:
        fail(name, rule, value, remedy)


def check_integer(name: str, value: Any, low: int, high: int | None = None, rule: str = "", remedy: str = "") -> None:
    """An integer in [low, high]."""
    if not rule:
        rule = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]"
    if not _is_number(value, numbers.Integral):
        fail(name, rule, value, remedy, TypeError)
    if value < low or (high is not None and value > high):
        fail(name, rule, value, remedy)


def check_bool(name: str, value: Any) -> None:
    """True or False; NumPy's own booleans too."""
    if type(value).__name__ not in ("bool", "bool_"):
        fail(name, "True or False", value, error=TypeError)


def check_choice(name: str, value: Any, choices: Iterable[str], remedy: str = "") -> None:
    """One of some strings."""
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        fail(name, "one of " + ", ".join(map(repr, names)), value, remedy)
