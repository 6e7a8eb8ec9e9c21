"""The numbers that connectors send: a number or a list, alone or one for each set of labels.

A `Cell` is a number or a list. A `Value` is a cell, or a dict of cells by labels. Functions that
return a value share no list with their arguments, except where they say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import reduce
from math import isnan
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from mpmetrics.engines.connectors.families import Merge

    Number: TypeAlias = int | float
    Cell: TypeAlias = Number | list[Number]
    LabelValues: TypeAlias = tuple[str, ...]
    Value: TypeAlias = Cell | dict[LabelValues, Cell]
    Settings: TypeAlias = list[dict[str, str]]

RECORDS: Final = "records"
"""The key of the number of events, of which each was sent as a record."""

_ENVELOPE: Final = frozenset({"data", "types", "info"})


def unwrap_payload(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the payload of *wire*: *wire* itself if it is flat, else its value of "data"."""
    inner = wire.get("data")
    if isinstance(inner, Mapping) and _ENVELOPE.issuperset(wire):
        return inner
    return wire


def read_settings(wire: Mapping[str, Any]) -> Settings | None:
    """Return the settings that *wire* has under "info": one dict for each series, or None.

    A setting that is None counts as missing. An older engine sends names there, which are no
    settings. Raises `TypeError` for anything else.
    """
    sent = None if unwrap_payload(wire) is wire else wire.get("info")
    if sent is None or (sent and all(isinstance(each, str) for each in sent)):
        return None
    return [_read_setting(each) for each in sent]


def _read_setting(sent: Any) -> dict[str, str]:
    """Return the settings of one series as text. Raises `TypeError` if they are no mapping."""
    if not isinstance(sent, Mapping):
        raise TypeError(sent)
    given = {_to_text(name): value for name, value in sent.items() if value is not None}
    return {name: _to_text(value) for name, value in given.items()}


def turn_by_key(sent: Mapping[str, Any], fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return *sent* with numbers by label as numbers by key; what is by key stays unchanged.

    By label there is either a mapping of numbers by key, or a list of such mappings, one for each
    event. *fields* has the keys, and for each the entries of such a record that are labels, too.
    """
    turned: dict[str, Any] = {}
    for label, value in sent.items():
        if (
            label not in fields
            and isinstance(value, Mapping)
            and not fields.keys().isdisjoint(value)
        ):
            for key, number in value.items():
                turned.setdefault(str(key), {})[label,] = number
        elif label not in fields and _is_records(value):
            for record in value:
                _turn_record(turned, label, record, fields)
        else:
            turned[label] = value
    return turned


def _is_records(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
    )


def _turn_record(
    turned: dict[str, Any],
    label: str,
    record: Mapping[str, Any],
    fields: Mapping[str, Sequence[str]],
) -> None:
    """Add the numbers of one *record* to those *turned* by key, and count it under `RECORDS`."""
    names = {name: None for of_key in fields.values() for name in of_key}
    labels = (label, *(record.get(name, "") for name in names))
    numbers = {key: number for key, number in record.items() if key not in names}
    for key, number in {**numbers, RECORDS: 1}.items():
        turned.setdefault(str(key), {}).setdefault(labels, []).append(number)


def to_number(number: Any) -> Number:
    """Return *number* as an int or float of Python, even if it is another library's.

    Raises `TypeError`, `ValueError` or `OverflowError` for anything else.
    """
    if type(number) is float:
        return number
    if isinstance(number, str | bytes | bytearray):
        raise TypeError(number)  # float() would parse them
    item = getattr(number, "item", None)
    found = item() if callable(item) else number
    as_float = float(found)  # raises for an int that is too large for a metric
    return int(found) if isinstance(found, int) else as_float


def read_value(value: Any, merge: Merge) -> Value:
    """Return a *value* that was sent, in the form in which statistics keep it.

    Raises `TypeError`, `ValueError` or `OverflowError` if it does not fit the *merge*.
    """
    if isinstance(value, Mapping):
        return from_cells(
            {_read_labels(key): _read_cell(cell, merge) for key, cell in value.items()}
        )
    return _read_cell(value, merge)


def to_cells(value: Value) -> dict[LabelValues, Cell]:
    """Return the cells of a *value* by labels, without a copy; a bare cell has no labels."""
    return value if isinstance(value, dict) else {(): value}


def from_cells(cells: dict[LabelValues, Cell]) -> Value:
    """Return the value of *cells*, without a copy; a single cell without labels stays bare."""
    return cells[()] if cells.keys() == {()} else cells


def copy_value(value: Value) -> Value:
    """Return a *value* with lists of its own."""
    if isinstance(value, dict):
        return {labels: _copy_cell(cell) for labels, cell in value.items()}
    return _copy_cell(value)


def is_blank(value: Value) -> bool:
    """Return whether a *value* has only empty lists; a number is not blank, even if it is 0."""
    return all(isinstance(cell, list) and not cell for cell in to_cells(value).values())


def write_value(value: Value) -> Any:
    """Return a *value* in a form that JSON can represent: labels become one string."""
    if isinstance(value, dict):
        return {json.dumps(labels): _copy_cell(cell) for labels, cell in value.items()}
    return _copy_cell(value)


def merge_cells(mine: Cell | None, theirs: Cell, merge: Merge) -> Cell:
    """Return *mine*, which may change in place, merged with *theirs*, which does not change."""
    if mine is None or (mine == [] and merge.how in {"latest", "max"}):
        return _copy_cell(theirs)
    return _MERGERS[merge.how](mine, theirs)


def _read_labels(key: object) -> LabelValues:
    """Return the labels of a *key*: a tuple, a single label, or the output of `write_value`."""
    several: Any = key if isinstance(key, tuple | list) else (key,)
    if isinstance(key, str) and key.startswith("["):
        with suppress(ValueError):
            several = json.loads(key)
    return tuple(map(_to_text, several))


def _to_text(label: object) -> str:
    """Return a *label* as text that UTF-8 can encode: lone surrogates are escaped."""
    text = str(label)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _read_cell(value: Any, merge: Merge) -> Cell:
    """Return one number or one list, in the form that the *merge* expects."""
    tolist = getattr(value, "tolist", None)
    value = tolist() if callable(tolist) else value
    is_many = isinstance(value, Iterable) and not isinstance(
        value, str | bytes | bytearray | Mapping
    )
    numbers = [to_number(number) for number in value] if is_many else [to_number(value)]
    if merge.how in {"latest", "max"}:
        return _reduce_gauge(numbers, merge.how)
    if merge.width and len(numbers) not in {0, merge.width}:
        message = f"{merge.width} numbers expected, not {len(numbers)}"
        raise ValueError(message)
    return numbers if is_many or merge.how == "extend" else numbers[0]


def _reduce_gauge(numbers: list[Number], how: str) -> Number:
    """Return the one number of a gauge. Raises `ValueError` if there is none."""
    if not numbers:
        message = "a gauge needs a number"
        raise ValueError(message)
    return reduce(_larger, numbers) if how == "max" else numbers[-1]


def _copy_cell(cell: Cell) -> Cell:
    return list(cell) if isinstance(cell, list) else cell


def _sum(mine: Cell, theirs: Cell) -> Cell:
    """Add two numbers, or put both cells into one list if one is a list: its sum is the same."""
    if isinstance(mine, list) or isinstance(theirs, list):
        return _extend(mine, theirs)
    return mine + theirs


def _extend(mine: Cell, theirs: Cell) -> Cell:
    """Append *theirs* to *mine*."""
    numbers = mine if isinstance(mine, list) else [mine]
    numbers.extend(theirs if isinstance(theirs, list) else [theirs])
    return numbers


def _latest(_mine: Cell, theirs: Cell) -> Cell:
    return theirs


def _max(mine: Cell, theirs: Cell) -> Cell:
    # `_read_cell` has reduced both cells to one number.
    return _larger(cast("Number", mine), cast("Number", theirs))


def _larger(mine: Number, theirs: Number) -> Number:
    """Return the larger number; a number beats NaN, whichever comes first."""
    return theirs if isnan(mine) or theirs > mine else mine


def _add_buckets(mine: Cell, theirs: Cell) -> Cell:
    """Add bucket by bucket. *theirs* is as long as the declaration says, *mine* too or empty."""
    if not mine:
        return _copy_cell(theirs)
    pairs = zip(cast("list[Number]", mine), cast("list[Number]", theirs), strict=True)
    return [a + b for a, b in pairs]


_MERGERS: Final[Mapping[str, Callable[[Cell, Cell], Cell]]] = {
    "sum": _sum,
    "latest": _latest,
    "max": _max,
    "extend": _extend,
    "bucketed": _add_buckets,
}
