"""What a check prints: differences, and how much was compared."""

from __future__ import annotations


def differ(text: object) -> None:
    """Report one difference."""
    print(f"! {text}")


def count(text: str) -> None:
    """Report how much was compared."""
    print(f"= {text}")


def compare(what: object, theirs: object, ours: object) -> None:
    """Report a difference if *theirs* is not equal to *ours*."""
    if theirs != ours:
        differ(f"{what}: upstream {theirs!r}, here {ours!r}")
