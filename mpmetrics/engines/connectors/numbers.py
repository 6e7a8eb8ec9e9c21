"""The numbers that connectors send: a number, a list, or one of both for each labels.

Nothing that is returned here shares a list with what was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import reduce
from math import isnan
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import TypeAlias

    from mpmetrics.engines.connectors.families import Merge

    Number: TypeAlias = int | float
    Cell: TypeAlias = Number | list[Number]
    Labels: TypeAlias = tuple[str, ...]
    Value: TypeAlias = Cell | dict[Labels, Cell]

_ENVELOPE: Final = frozenset({"data", "types", "info"})


def payload(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is in *wire*: itself if it is flat, else what it has under "data"."""
    inner = wire.get("data")
    if isinstance(inner, Mapping) and _ENVELOPE.issuperset(wire):
        return inner
    return wire


def plain(number: Any) -> Number:
    """Return *number* as one of Python's own, even if it is another library's.

    Raises `TypeError`, `ValueError` or `OverflowError` for what is none.
    """
    if type(number) is float:
        return number
    if isinstance(number, str | bytes | bytearray):
        raise TypeError(number)  # float would read them
    item = getattr(number, "item", None)
    found = item() if callable(item) else number
    as_float = float(found)  # a whole number that is too large for a metric ends here
    return int(found) if isinstance(found, int) else as_float


def read(value: Any, merge: Merge) -> Value:
    """Return a *value* as it was sent, in the form in which it is kept.

    Raises `TypeError`, `ValueError` or `OverflowError` for what it cannot be.
    """
    if isinstance(value, Mapping):
        return shaped({_labels(key): _cell(cell, merge) for key, cell in value.items()})
    return _cell(value, merge)


def cells(value: Value) -> dict[Labels, Cell]:
    """Return a *value* by labels; what has none is under the empty ones."""
    return value if isinstance(value, dict) else {(): value}


def shaped(by_labels: dict[Labels, Cell]) -> Value:
    """Return a value: what has no labels, and only that, stands for itself."""
    return by_labels[()] if by_labels.keys() == {()} else by_labels


def copied(value: Value) -> Value:
    """Return a *value* with lists of its own."""
    if isinstance(value, dict):
        return {labels: _copied_cell(cell) for labels, cell in value.items()}
    return _copied_cell(value)


def is_blank(value: Value) -> bool:
    """Tell whether a *value* says nothing; a number does, even if it is 0."""
    return all(isinstance(cell, list) and not cell for cell in cells(value).values())


def written(value: Value) -> Any:
    """Return a *value* in a form that JSON has: labels become one text."""
    if isinstance(value, dict):
        return {json.dumps(labels): _copied_cell(cell) for labels, cell in value.items()}
    return _copied_cell(value)


def merged(mine: Cell | None, theirs: Cell, merge: Merge) -> Cell:
    """Return *mine*, which may change, with *theirs*, which does not."""
    return _copied_cell(theirs) if mine is None else _MERGED[merge.how](mine, theirs)


def _labels(key: object) -> Labels:
    """Return the labels that *key* stands for: several, one, or those that were `written`."""
    several: Any = key if isinstance(key, tuple | list) else (key,)
    if isinstance(key, str) and key.startswith("["):
        with suppress(ValueError):
            several = json.loads(key)
    return tuple(map(_text, several))


def _text(label: object) -> str:
    """Return a *label* that a page can have: half a character of UTF-16 has no place in UTF-8."""
    text = str(label)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _cell(value: Any, merge: Merge) -> Cell:
    """Return one number, or one list, as it is to be merged."""
    tolist = getattr(value, "tolist", None)
    value = tolist() if callable(tolist) else value
    many = isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping)
    numbers = [plain(number) for number in value] if many else [plain(value)]
    if merge.how in {"latest", "max"}:
        return _one(numbers, merge.how)
    if merge.width and len(numbers) not in {0, merge.width}:
        message = f"{merge.width} numbers expected, not {len(numbers)}"
        raise ValueError(message)
    return numbers if many or merge.how == "extend" else numbers[0]


def _one(numbers: list[Number], how: str) -> Number:
    """Return the one number of a gauge. Raises `ValueError` if there is none."""
    if not numbers:
        message = "a gauge needs a number"
        raise ValueError(message)
    return reduce(_larger, numbers) if how == "max" else numbers[-1]


def _copied_cell(cell: Cell) -> Cell:
    return list(cell) if isinstance(cell, list) else cell


def _sum(mine: Cell, theirs: Cell) -> Cell:
    """Add numbers; where one is a list, have both in it, since its sum is what counts."""
    if isinstance(mine, list) or isinstance(theirs, list):
        return _extend(mine, theirs)
    return mine + theirs


def _extend(mine: Cell, theirs: Cell) -> Cell:
    """Put *theirs* behind *mine*."""
    numbers = mine if isinstance(mine, list) else [mine]
    numbers.extend(theirs if isinstance(theirs, list) else [theirs])
    return numbers


def _latest(mine: Cell, theirs: Cell) -> Cell:  # noqa: ARG001 - one of a table
    return theirs


def _max(mine: Cell, theirs: Cell) -> Cell:
    return _larger(mine, theirs)  # type: ignore[arg-type]  # see `_cell`


def _larger(mine: Number, theirs: Number) -> Number:
    """Return the larger number; one that is NaN is passed over, whichever comes first."""
    return theirs if isnan(mine) or theirs > mine else mine


def _bucketed(mine: Cell, theirs: Cell) -> Cell:
    """Add bucket by bucket; the width is that of the declaration, or there is nothing yet."""
    if not mine:
        return _copied_cell(theirs)
    return [a + b for a, b in zip(mine, theirs, strict=True)]  # type: ignore[arg-type]


_MERGED: Final = {
    "sum": _sum,
    "latest": _latest,
    "max": _max,
    "extend": _extend,
    "bucketed": _bucketed,
}
