"""Text for people: names on one line, numbers with units.

Units follow the naming conventions of Prometheus
(https://prometheus.io/docs/practices/naming/#base-units): the name of a metric ends in its base
unit.
"""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COUNT_DIGITS: Final = 6
_DURATION_DIGITS: Final = 3
_BYTES_DIGITS: Final = 4
_RATIO_DIGITS: Final = 4

# Above it, not every whole number has a float of its own, so some digits would be made up.
_EXPONENT_FROM: Final = 1e15

_CUT: Final = " … "

_DURATIONS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES: Final = tuple(
    (float(1 << 10 * power), unit)
    for power, unit in reversed([*enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))])
)


def one_line(text: str) -> str:
    """Return *text* with escapes for line breaks, terminal codes and all else unprintable."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str, length: int) -> str:
    """Return *text*, cut in its middle to *length* characters: its end often has the reason."""
    if len(text) <= length:
        return text
    kept = max(length - len(_CUT), 0)
    return text[: kept - kept // 2] + _CUT + text[len(text) - kept // 2 :]


def enumerate_names(names: Sequence[str], shown: int = 3, separator: str = ", ") -> str:
    """Return the first *names*, and how many more there are: a message is no place for all."""
    more = len(names) - shown
    return separator.join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def width(text: str) -> int:
    """Return the number of columns that *text* takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in {"F", "W"})
        for char in text
    )


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return *count* and *noun*, with its *ending* unless there is exactly one."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def format_count(value: float) -> str:
    """Return a plain number: all digits of a whole number, up to six digits of any other."""
    return _digits(value, _COUNT_DIGITS)


def format_duration(seconds: float) -> str:
    """Return a duration with a unit that leaves one to three digits before the point."""
    return _scaled(seconds, _DURATION_DIGITS, _DURATIONS, at_zero="s")


def format_bytes(size: float) -> str:
    """Return a size with a binary unit."""
    return _scaled(size, _BYTES_DIGITS, _SIZES, at_zero="B")


def format_ratio(ratio: float) -> str:
    """Return a ratio in percent."""
    return f"{_digits(ratio * 100, _RATIO_DIGITS)} %" if math.isfinite(ratio) else _digits(ratio, 1)


_UNITS: Final[Mapping[str, Callable[[float], str]]] = {
    "_seconds": format_duration,
    "_bytes": format_bytes,
    "_ratio": format_ratio,
}


def format_of(name: str) -> Callable[[float], str]:
    """Return the function that formats values of the metric *name*, by the unit in the name."""
    for suffix, form in _UNITS.items():
        if name.endswith(suffix):
            return form
    return format_count


def _scaled(
    value: float, digits: int, units: tuple[tuple[float, str], ...], *, at_zero: str
) -> str:
    """Return *value* in the largest of the *units* in which, rounded, it is at least one."""
    if not value:
        return f"0 {at_zero}"
    if not math.isfinite(value):
        return _digits(value, digits)
    fitting = (each for each in units if abs(float(f"{value / each[0]:.{digits}g}")) >= 1)
    factor, unit = next(fitting, units[-1])
    return f"{_digits(value / factor, digits)} {unit}"


def _digits(value: float, digits: int) -> str:
    """Return *value* rounded to *digits* digits, but never within its whole part."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    text = f"{value:,.{digits}g}"
    return f"{value:,.0f}" if "e+" in text and abs(value) < _EXPONENT_FROM else text
