"""To which family a sample belongs, by the names that TYPE lines declare.

Prometheus stores series, and does not ask. A page has to: each sample is in one family, and keeps
the name that its source gave it. prometheus_client calls a counter by its name without `_total`;
a counter of the text format need not have that suffix, and then its samples have its own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import Metric

from mpmetrics.exposition import exposed_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client.samples import Sample


class PageFamily(Metric):
    """A family that was read from a page: it can be written, and has each series once."""

    def __init__(
        self, name: str, kind: str, help_text: str, unit: str, samples: list[Sample]
    ) -> None:
        """Take the parts as they are."""
        # Not Metric.__init__: its name check depends on the version, and our names are escaped.
        self.name = name
        self.type = kind
        self.documentation = help_text
        self.unit = unit
        self.samples = samples


class Naming(NamedTuple):
    """How a format names samples: the types whose samples have the *own* name of their family.

    *suffixes* are the other names that the samples of a type have.
    """

    own: frozenset[str]
    suffixes: Mapping[str, frozenset[str]]


TEXT_NAMING: Final = Naming(
    frozenset({"counter", "gauge", "summary", "unknown"}),
    {
        "histogram": frozenset({"_bucket", "_sum", "_count"}),
        "summary": frozenset({"_sum", "_count"}),
    },
)
OPENMETRICS_NAMING: Final = Naming(
    frozenset({"gauge", "summary", "stateset", "unknown"}),
    {
        "counter": frozenset({"_total", "_created"}),
        "histogram": frozenset({"_bucket", "_sum", "_count", "_created"}),
        "gaugehistogram": frozenset({"_bucket", "_gsum", "_gcount"}),
        "summary": frozenset({"_sum", "_count", "_created"}),
        "info": frozenset({"_info"}),
    },
)


class Declarations(NamedTuple):
    """What a page says of its families: *types* in the order of their lines, *helps*, *units*."""

    types: dict[str, list[str]]
    helps: dict[str, str]
    units: dict[str, str]


def assign(
    samples: Mapping[str, Sequence[Sample]], declared: Declarations, naming: Naming
) -> list[PageFamily]:
    """Return the families of all *samples*, which are given by their names."""
    families: dict[str, PageFamily] = {}
    for name, several in samples.items():
        declared_name, kind = _declaration(name, declared.types, naming)
        family_name, kind = _family(name, declared_name, kind)
        is_bare = kind == "counter" and family_name == name
        key = name if is_bare else exposed_name(family_name, kind)
        family = families.get(key)
        if family is None:
            help_text = declared.helps.get(declared_name, "")
            unit = declared.units.get(declared_name, "")
            families[key] = PageFamily(family_name, kind, help_text, unit, list(several))
        else:
            # Of two types that one name was declared with, the family has the first.
            family.samples.extend(several)
    return list(families.values())


def _declaration(name: str, types: Mapping[str, Sequence[str]], naming: Naming) -> tuple[str, str]:
    """Return the declared name and the type for samples called *name*."""
    own = types.get(name, ())
    for kind in own:
        if kind in naming.own:
            return name, kind
    base, underscore, suffix = name.rpartition("_")
    for kind in types.get(base, ()):
        if underscore + suffix in naming.suffixes.get(kind, ()):
            return base, kind
    return name, own[0] if own else "unknown"


def _family(name: str, declared_name: str, kind: str) -> tuple[str, str]:
    """Return the name and the type of the family that has samples called *name*."""
    if kind not in {"counter", "info"} or declared_name != name:
        return declared_name, kind
    # Declared with the suffix, as in the text format.
    suffix = exposed_name("", kind)
    base = name.removesuffix(suffix)
    if base and base != name:
        return base, kind
    return name, kind if kind == "counter" else "unknown"
