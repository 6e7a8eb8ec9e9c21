"""Groups select columns of values, and return results in the order of the slots."""

from __future__ import annotations

import pytest

from mpmetrics.merging.groups import SlotRange, compile_selector, group_slots
from mpmetrics.merging.series import Kind

COUNTER, MAX, NEWEST = Kind("counter", ""), Kind("gauge", "max"), Kind("gauge", "mostrecent")


@pytest.mark.parametrize(
    ("indexes", "selected"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([2, 3, 4], "cde", id="a run"),
        pytest.param([4], "e", id="one"),
        pytest.param([0, 2], "ac", id="a gap"),
        pytest.param([3, 2], "dc", id="backwards"),
        pytest.param([1, 1], "bb", id="twice"),
    ],
)
def test_a_selector_takes_the_elements_at_its_indexes(indexes: list[int], selected: str) -> None:
    """A selector returns the elements in the order of its indexes."""
    assert list(compile_selector(indexes)("abcdef")) == list(selected)


def test_columns_of_like_files_are_slices() -> None:
    """A selector of a run returns a slice, in the type of what it takes from."""
    assert compile_selector([1, 2])(range(5)) == range(1, 3)


def test_slots_of_one_kind_and_size_are_one_group() -> None:
    """Each group has as many columns as its slots have contributions."""
    slots = [(0, 3), (1,), (2, 5), (4,)]
    grouping = group_slots(slots, [SlotRange(COUNTER, 0, 3), SlotRange(MAX, 3, 4)])
    assert [(group.rule.name, len(group.columns)) for group in grouping.groups] == [
        *(("sum", 2), ("sum", 1), ("max", 1))
    ]
    assert list(grouping.merge([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])) == [11.0, 2.0, 33.0, 20.0]


def test_results_are_in_the_order_of_slots() -> None:
    """Slots that are not in file order get their own results, of any kind."""
    slots = [(4, 1), (2,), (3, 0)]
    grouping = group_slots(slots, [SlotRange(MAX, 0, 2), SlotRange(COUNTER, 2, 3)])
    flat = [1.0, 7.0, 3.0, 4.0, 5.0]
    assert list(grouping.merge(flat)) == [7.0, 3.0, 5.0]
    assert list(grouping.fold(flat)) == [(7.0, 0.0), (3.0, 0.0), (5.0, 0.0)]


def test_slots_in_any_order_are_selected_in_file_order() -> None:
    """A group takes its columns in the order of the file, as slices, and puts results back."""
    grouping = group_slots([(2, 5), (0, 3), (1, 4)], [SlotRange(COUNTER, 0, 3)])
    ((_, columns),) = grouping.groups
    assert [column(range(6)) for column in columns] == [range(3), range(3, 6)]
    assert list(grouping.merge([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])) == [33.0, 11.0, 22.0]


def test_ranges_of_one_kind_share_groups() -> None:
    """Families of one kind are merged by one call of its rule."""
    ranges = [SlotRange(COUNTER, 0, 1), SlotRange(NEWEST, 1, 2), SlotRange(COUNTER, 2, 3)]
    grouping = group_slots([(0,), (1,), (2,)], ranges)
    assert [group.rule.name for group in grouping.groups] == ["sum", "mostrecent"]
    assert list(grouping.merge([1.0, (5, 2.0), 3.0])) == [1.0, 2.0, 3.0]
