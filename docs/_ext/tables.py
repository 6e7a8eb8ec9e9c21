"""Directives that write tables of the code as tables of the documentation.

`{merge-rules}` stands for `mpmetrics.merging.rules.RULES`, `{problem-reasons}` for
`mpmetrics.errors.REASONS`, `{dead-gauges}` for `mpmetrics.compaction.policy.DEAD_GAUGES`,
`{engine-families}`, with vllm, lmcache or dynamo, for the table of the module of that name in
`mpmetrics.engines.families`,
`{connector-families}`, with a class of KV connectors, for what it declares, and
`{event-families}` for `mpmetrics.engines.events.metrics.EVENT_FAMILIES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from sphinx.util.docutils import SphinxDirective

from mpmetrics import errors
from mpmetrics.compaction import policy
from mpmetrics.engines.connectors import known_families
from mpmetrics.engines.events import metrics
from mpmetrics.engines.families import dynamo, lmcache, vllm
from mpmetrics.merging import rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docutils.nodes import Node
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.families import Family
    from mpmetrics.merging.rules import Rule


F = TypeVar("F")


def rule_lines(rules: Mapping[tuple[str, str], Rule]) -> Iterator[str]:
    """Write merge *rules* as the lines of a Markdown table, in their own order."""
    yield "| Type | Gauge mode | Rule | Value on the page | Values of a dead worker |"
    yield "|---|---|---|---|---|"
    for (kind, mode), rule in rules.items():
        shown = f"`{mode}`" if mode else ""
        yield f"| {kind} | {shown} | {rule.name} | {rule.meaning} | {rule.dead} |"


def reason_lines(reasons: Mapping[str, str]) -> Iterator[str]:
    """Write the *reasons* of problems as the lines of a Markdown table, in their own order."""
    yield "| Reason | Meaning |"
    yield "|---|---|"
    for reason, meaning in reasons.items():
        yield f"| `{reason}` | {meaning} |"


FAMILY_COLUMNS: Final[Mapping[str, Callable[[Family], str]]] = {
    "Name": lambda family: f"`{family.name}`",
    "Type": lambda family: family.type,
    "Labels": lambda family: ", ".join(f"`{label}`" for label in family.labels),
    "Mode or buckets": lambda family: (
        f"`{family.mode}`" if family.mode else " ".join(f"{edge:g}" for edge in family.buckets)
    ),
    "Meaning": lambda family: family.help,
}

VLLM_COLUMNS: Final = {**FAMILY_COLUMNS, "Only with": lambda family: family.condition}

LMCACHE_COLUMNS: Final = {
    **FAMILY_COLUMNS,
    "Over `worker_id`": lambda family: family.rollup,
    "In files": lambda family: "yes" if family.in_files else "no",
    "Only with": lambda family: family.condition,
}

DYNAMO_COLUMNS: Final = {**FAMILY_COLUMNS, "Only with": lambda family: family.condition}

EVENT_COLUMNS: Final[Mapping[str, Callable[[Family], str]]] = {
    "Name": lambda family: f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
    **{title: FAMILY_COLUMNS[title] for title in ("Type", "Labels", "Meaning")},
}

ENGINES: Final = {
    "vllm": (vllm.__file__, vllm.VLLM_FAMILIES, VLLM_COLUMNS),
    "lmcache": (lmcache.__file__, lmcache.LMCACHE_FAMILIES, LMCACHE_COLUMNS),
    "dynamo": (dynamo.__file__, dynamo.DYNAMO_FAMILIES, DYNAMO_COLUMNS),
}


CONNECTOR_COLUMNS: Final[Mapping[str, Callable[[ConnectorFamily], str]]] = {
    "Name": lambda family: f"`{family.name}`",
    "Type": lambda family: family.type,
    "Labels": lambda family: ", ".join(f"`{label}`" for label in family.labels),
    "Buckets": lambda family: " ".join(f"{edge:g}" for edge in family.buckets),
    "Meaning": lambda family: family.help,
    "Sent as": lambda family: ", ".join(f"`{key}`" for key in family.keys),
}


def family_lines(families: Sequence[F], columns: Mapping[str, Callable[[F], str]]) -> Iterator[str]:
    """Write *families* as the lines of a Markdown table of *columns*, in their own order."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for family in families:
        yield f"| {' | '.join(cell(family) for cell in columns.values())} |"


class MergeRules(SphinxDirective):
    """The table of how each type of metric is merged."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(rules.__file__)
        return self.parse_text_to_nodes("\n".join(rule_lines(rules.RULES)))


class ProblemReasons(SphinxDirective):
    """The table of reasons of problems with the input of a page."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(errors.__file__)
        return self.parse_text_to_nodes("\n".join(reason_lines(errors.REASONS)))


class DeadGauges(SphinxDirective):
    """The table of gauges that end with their worker, whatever their mode."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(policy.__file__)
        lines = ["| Prefix | Values of a dead worker |", "|---|---|"]
        lines += [f"| `{prefix}` | {fate} |" for prefix, fate in policy.DEAD_GAUGES.items()]
        return self.parse_text_to_nodes("\n".join(lines))


class EngineFamilies(SphinxDirective):
    """The table of the families that an engine emits; its argument is the name of the engine."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        (engine,) = self.arguments
        if engine not in ENGINES:
            message = f"no engine {engine!r}: it is one of {', '.join(ENGINES)}"
            raise self.error(message)
        file, families, columns = ENGINES[engine]
        self.env.note_dependency(file)
        return self.parse_text_to_nodes("\n".join(family_lines(families, columns)))


class ConnectorFamilies(SphinxDirective):
    """The table of families that a class of connectors declares; its argument is the class."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        (name,) = self.arguments
        known = known_families.CONNECTOR_FAMILIES
        if name not in known:
            message = f"no connector {name!r}: it is one of {', '.join(known)}"
            raise self.error(message)
        self.env.note_dependency(known_families.__file__)
        return self.parse_text_to_nodes("\n".join(family_lines(known[name], CONNECTOR_COLUMNS)))


class EventFamilies(SphinxDirective):
    """The table of the families that a bridge of KV events emits."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(metrics.__file__)
        lines = family_lines(metrics.EVENT_FAMILIES, EVENT_COLUMNS)
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives with Sphinx."""
    app.add_directive("merge-rules", MergeRules)
    app.add_directive("problem-reasons", ProblemReasons)
    app.add_directive("dead-gauges", DeadGauges)
    app.add_directive("engine-families", EngineFamilies)
    app.add_directive("connector-families", ConnectorFamilies)
    app.add_directive("event-families", EventFamilies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
