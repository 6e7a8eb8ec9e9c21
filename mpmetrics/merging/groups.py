"""Groups: the slots that one call of a rule fills, column by column.

A *slot* is a value of the result that a rule computes; it has the places of its contributions in
*flat*. Slots of the same kind with the same number of contributions form a group: the first
contribution of each, the second of each and so on are the columns that the rule works on. Where
the files of all workers look alike, these columns are plain slices of *flat*.
"""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from mpmetrics.merging.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.merging.rules import Rule
    from mpmetrics.merging.series import Flat, Kind, Places

    Selector = Callable[[Flat], Sequence[Any]]


class SlotRange(NamedTuple):
    """The slots from *start* up to *stop*, all of one *kind*."""

    kind: Kind
    start: int
    stop: int


class Group(NamedTuple):
    """Slots that one call of a *rule* fills, as the *columns* to select from *flat*."""

    rule: Rule
    columns: list[Selector]


class Grouping(NamedTuple):
    """All slots in groups, and how to put what the groups return into the order of the slots."""

    groups: list[Group]
    in_order: Selector

    def merge(self, flat: Flat) -> Sequence[Any]:
        """Return the merged value of every slot."""
        merged: list[Any] = []
        for rule, columns in self.groups:
            merged += rule.merge([column(flat) for column in columns])
        return self.in_order(merged)

    def fold(self, flat: Flat) -> Sequence[tuple[float, float]]:
        """Return both numbers of every slot's entry in an archive."""
        folded: list[Any] = []
        for rule, columns in self.groups:
            folded += rule.fold([column(flat) for column in columns])
        return self.in_order(folded)


def group_slots(slots: Sequence[Places], ranges: Sequence[SlotRange]) -> Grouping:
    """Group *slots*, which the *ranges* cover."""
    members: dict[Kind, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for kind, start, stop in ranges:
        by_count = members[kind]
        for slot, at in enumerate(slots[start:stop], start):
            by_count[len(at)].append(slot)
    firsts = [at[0] for at in slots]
    groups = []
    order: list[int] = []
    for kind, by_count in members.items():
        for group in by_count.values():
            # In the order of the file, columns of files that look alike become plain slices.
            group.sort(key=firsts.__getitem__)
            columns = zip(*[slots[slot] for slot in group], strict=True)
            groups.append(Group(RULES[kind], [compile_selector(column) for column in columns]))
            order += group
    positions = [0] * len(order)
    for position, slot in enumerate(order):
        positions[slot] = position
    return Grouping(groups, compile_selector(positions))


def compile_selector(indexes: Sequence[int]) -> Selector:
    """Return a function that takes the elements at *indexes*; for a run of them, one slice."""
    first, end = (indexes[0], indexes[0] + len(indexes)) if indexes else (0, 0)
    if tuple(indexes) == tuple(range(first, end)):
        return itemgetter(slice(first, end))
    return itemgetter(*indexes)
