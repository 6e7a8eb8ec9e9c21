"""An option that had another name before: the former spelling works, and is not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RenamedOption(click.Option):
    """An option with *former_names* for itself, or *former_values* for its values."""

    def __init__(
        self,
        *args: Any,
        former_names: Sequence[str] = (),
        former_values: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        """Take the arguments of an option; *former_values* maps a former value to today's."""
        super().__init__(*args, **attributes)
        self._former_names = former_names
        self._former_values = former_values or {}

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Have the parser know the former names, too."""
        shown = self.opts
        self.opts = [*shown, *self._former_names]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert *value*, or today's value in its place."""
        if isinstance(value, str):
            value = self._former_values.get(value, value)
        return super().type_cast_value(ctx, value)
