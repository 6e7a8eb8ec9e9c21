"""The values of a page as text, and the lines that end with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_TIME: Final = 9.2e15
"""Seconds beyond which a time in milliseconds may not fit into 64 bits, as Prometheus has it."""

_GO_EXPONENT_FROM: Final = 1e6
"""Go, and so Prometheus, writes an exponent from here on; `repr` does so only from 1e16."""


def format_value(value: float) -> str:
    """Return *value* as Prometheus writes it: shortest digits, Go's exponents, NaN and +Inf."""
    if -math.inf < value < _GO_EXPONENT_FROM:
        return repr(value)
    return _format_special(value)


_EXPONENTS: Final = tuple(f"e+{exponent:02d}" for exponent in range(17))


def _format_special(value: float) -> str:
    """Return a large number, an infinity or NaN, which `repr` writes in another way."""
    text = repr(value)
    point = text.find(".")
    if point < 0 or "e" in text:
        return _NOT_NUMBERS.get(text, text)
    digits = text.replace(".", "").rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return mantissa + _EXPONENTS[point - 1]


_NOT_NUMBERS: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def format_lines(
    prefixes: Sequence[str],
    values: Sequence[float],
    old_values: Sequence[float | None],
    old_lines: Sequence[str],
) -> list[str]:
    """Return one line for each series: its prefix and its value.

    A line whose value equals the one in *old_values* is taken from *old_lines*. Zero is always
    written again, because -0.0 equals 0.0.
    """
    lowest, highest, special = -math.inf, _GO_EXPONENT_FROM, _format_special
    return [
        line
        if value == old and value
        # What `format_value` does, without the call.
        else f"{prefix}{value!r}\n"
        if lowest < value < highest
        else f"{prefix}{special(value)}\n"
        for prefix, value, old, line in zip(prefixes, values, old_values, old_lines, strict=True)
    ]
