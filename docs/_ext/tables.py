"""Directives for tables that the code itself goes by, so that what is read is what is done.

`{merge-rules}` stands for `mpmetrics.merging.RULES`, `{problem-reasons}` for
`mpmetrics.errors.REASONS`, `{dead-gauges}` for `mpmetrics.compaction.DEAD_GAUGES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from mpmetrics import compaction, errors, merging

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docutils.nodes import Node
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from mpmetrics.merging import Rule


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


class MergeRules(SphinxDirective):
    """The table of how each type of metric is merged."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(merging.__file__)
        return self.parse_text_to_nodes("\n".join(rule_lines(merging.RULES)))


class ProblemReasons(SphinxDirective):
    """The table of what can be wrong with the input of a page."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(errors.__file__)
        return self.parse_text_to_nodes("\n".join(reason_lines(errors.REASONS)))


class DeadGauges(SphinxDirective):
    """The table of gauges that end with their worker whatever their mode."""

    def run(self) -> list[Node]:
        """Return the table as nodes of the document."""
        self.env.note_dependency(compaction.__file__)
        lines = ["| Prefix | Values of a dead worker |", "|---|---|"]
        lines += [f"| `{prefix}` | {fate} |" for prefix, fate in compaction.DEAD_GAUGES.items()]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directives."""
    app.add_directive("merge-rules", MergeRules)
    app.add_directive("problem-reasons", ProblemReasons)
    app.add_directive("dead-gauges", DeadGauges)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
