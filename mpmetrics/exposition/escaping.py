"""The escaping of names and label values.

Names beyond the classic character set are written by one of the schemes of
https://prometheus.io/docs/instrumenting/escaping_schemes/. Colons are legal in metric names and
every scheme keeps them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class CharacterSet(NamedTuple):
    """The classic character set of a kind of names: a *legal* name, one *illegal* character."""

    legal: re.Pattern[str]
    illegal: re.Pattern[str]


METRIC_NAMES: Final = CharacterSet(
    re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*"), re.compile(r"^[0-9]|[^a-zA-Z0-9_:]")
)
LABEL_NAMES: Final = CharacterSet(
    re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*"), re.compile(r"^[0-9]|[^a-zA-Z0-9_]")
)


def _replace_by_underscores(name: str, characters: CharacterSet) -> str:
    """Write "_" for each illegal character; different names may become the same."""
    return characters.illegal.sub("_", name)


def _spell_dots(name: str, characters: CharacterSet) -> str:
    """Write "_dot_" for a dot, and "__" for "_" and for every other illegal character."""
    doubled = name.replace("_", "__")
    return characters.illegal.sub(lambda match: "_dot_" if match[0] == "." else "__", doubled)


def _spell_code_points(name: str, characters: CharacterSet) -> str:
    """Write the code point for each illegal character, so that all names stay different."""
    if characters.legal.fullmatch(name):
        return name
    coded = characters.illegal.sub(lambda match: f"_{ord(match[0]):x}_", name.replace("_", "__"))
    return f"U__{coded}"


def _quote(name: str, characters: CharacterSet) -> str:
    """Write a name as it is, in quotes unless it is legal without."""
    return name if characters.legal.fullmatch(name) else f'"{escape_value(name)}"'


ALLOW_UTF8: Final = "allow-utf-8"
UNDERSCORES: Final = "underscores"
VALUES: Final = "values"

ESCAPING_SCHEMES: Final[Mapping[str, Callable[[str, CharacterSet], str]]] = {
    UNDERSCORES: _replace_by_underscores,
    ALLOW_UTF8: _quote,
    "dots": _spell_dots,
    VALUES: _spell_code_points,
}
"""How names beyond the classic character set are written, by the scheme's name in `Accept`."""


def escape_value(text: str) -> str:
    """Escape a label value, or a name in quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
