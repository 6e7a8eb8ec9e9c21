"""The end of a command's help: an example."""

from __future__ import annotations


def example(*lines: str) -> str:
    """Return the epilog of a command: *lines* of a shell, which are not wrapped."""
    # \b keeps click from joining the lines.
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
