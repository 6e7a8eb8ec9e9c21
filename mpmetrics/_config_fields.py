"""A configuration file in YAML, and its fields: checked for their type when they are read.

No message has a value of a field, or a line of the file: it may be a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from mpmetrics._extra import require_module
from mpmetrics._opening import read_named_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FieldError(Exception):
    """A field with a wrong value; the message names the field."""


def require_mapping(name: str, value: object) -> Mapping[str, Any]:
    """Return *value*, if it is a mapping with text for keys; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        message = f"{name} is not a mapping"
        raise FieldError(message)
    return value


def refuse_unknown(section: str, fields: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise `FieldError` for a field that is not *known*."""
    unknown = sorted(fields.keys() - known)
    if unknown:
        message = f"{section}: {unknown[0]!r} is not supported"
        raise FieldError(message)


def load_yaml(path: str) -> object:
    """Return the document in the YAML file *path*. Raises `FieldError` if it is not YAML.

    Raises `MissingExtraError`, or `OSError`.
    """
    require_module("yaml", package="pyyaml")
    import yaml  # noqa: PLC0415 - it comes with the extra `serve`, which may be missing

    data = read_named_file(path)
    try:
        return yaml.safe_load(data)
    except Exception as error:  # noqa: BLE001 - a date or a number can raise whatever it likes
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}" if mark else type(error).__name__
        message = f"it is not YAML: {at}"
        raise FieldError(message) from None


class Section:
    """A section of the file; its methods read one field each, and raise `FieldError`.

    A field without a value is one that is not there.
    """

    def __init__(self, name: str, fields: Mapping[str, Any], known: frozenset[str]) -> None:
        """Take the *fields* of the section *name*; each must be *known*."""
        refuse_unknown(name, fields, known)
        self._name = name
        self._fields = {name: value for name, value in fields.items() if value is not None}

    def __bool__(self) -> bool:
        """Whether there is any field."""
        return bool(self._fields)

    def text(self, name: str) -> str:
        """Return a text, "" by default."""
        value = self._fields.get(name, "")
        if not isinstance(value, str):
            self.refuse(name, "is not text")
        return value

    def texts(self, name: str) -> Sequence[str]:
        """Return a list of texts, empty by default."""
        value = self._fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self.refuse(name, "is not a list of texts")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value."""
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "is neither true nor false")
        return value

    def count(self, name: str, default: int) -> int:
        """Return a whole number above zero."""
        value = self._fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            self.refuse(name, "is not a whole number above zero")
        return value

    def choice(self, name: str, choices: Mapping[str, object], default: str) -> str:
        """Return one of the keys of *choices*."""
        text = self.text(name) or default
        if text not in choices:
            self.refuse(name, f"{text!r} is not supported; use one of {', '.join(choices)}")
        return text

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise `FieldError` for the field *name*."""
        message = f"{self._name}: {name}: {reason}"
        raise FieldError(message)
