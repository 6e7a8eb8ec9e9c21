"""The rules, one by one."""

from __future__ import annotations

import math

import pytest

from mpmetrics.directory.files import GAUGE_MODES, PLAIN_TYPES
from mpmetrics.merging.rules import (
    RULES,
    counts_between,
    cumulative,
    largest,
    last,
    newest,
    shared_bounds,
    smallest,
    total,
)

INF, NAN = math.inf, math.nan


def test_there_is_a_rule_for_every_type_and_mode() -> None:
    """No file name can be read for which there is no rule."""
    assert set(RULES) == {(kind, "") for kind in PLAIN_TYPES} | {("gauge", m) for m in GAUGE_MODES}


def test_live_modes_differ_in_what_becomes_of_the_dead_only() -> None:
    """A live mode merges the living like its namesake."""
    for mode in ("all", "min", "max", "sum", "mostrecent"):
        rule, live = RULES["gauge", mode], RULES["gauge", f"live{mode}"]
        assert (live.merge, live.per_process, live.stamped) == (
            *(rule.merge, rule.per_process, rule.stamped),
        )
        assert (rule.dead.split()[0], live.dead) == ("kept", "gone")


@pytest.mark.parametrize(
    ("rule", "columns", "merged"),
    [
        pytest.param(total, [(1.0, 2.0), (3.0, -4.0)], [4.0, -2.0], id="sum"),
        pytest.param(total, [(INF, INF), (1.0, -INF)], [INF, NAN], id="sum with infinities"),
        pytest.param(total, [(1.5, NAN)], [1.5, NAN], id="sum of one"),
        pytest.param(smallest, [(1.0, 5.0), (3.0, -INF)], [1.0, -INF], id="min"),
        pytest.param(smallest, [(NAN, 1.0), (2.0, NAN)], [2.0, 1.0], id="min passes over NaN"),
        pytest.param(smallest, [(NAN,), (NAN,)], [NAN], id="min of NaN"),
        pytest.param(largest, [(1.0, 5.0), (3.0, INF)], [3.0, INF], id="max"),
        pytest.param(largest, [(NAN, 1.0), (2.0, NAN)], [2.0, 1.0], id="max passes over NaN"),
        pytest.param(largest, [(NAN, NAN)], [NAN, NAN], id="max of one"),
        pytest.param(last, [(1.0,), (2.0,), (0.5,)], [0.5], id="last"),
        pytest.param(newest, [((1, 5.0),), ((2, 4.0),)], [4.0], id="newest"),
        pytest.param(newest, [((2, 5.0),), ((2, 6.0),)], [6.0], id="newest of a tie"),
        pytest.param(newest, [((0, 5.0),), ((0, 6.0),)], [None], id="newest of never set"),
    ],
)
def test_a_rule_merges_column_by_column(rule: object, columns: list, merged: list) -> None:  # type: ignore[type-arg]
    """Each position is a series of its own."""
    assert callable(rule)
    assert repr(rule(columns)) == repr(merged)


def test_counts_become_cumulative() -> None:
    """The last one is the number of observations."""
    assert cumulative([1.0, 0.0, 2.0]) == [1.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("layouts", "shared"),
    [
        pytest.param([[1, 2, INF], [1, 2, INF]], [1, 2, INF], id="the same"),
        pytest.param([[1, 2, INF], [1, 3, INF]], [1, INF], id="one differs"),
        pytest.param([[1, INF], [2, INF]], [INF], id="all differ"),
        pytest.param([[1, 2, INF], [1]], [1, 2, INF], id="the second is still being made"),
        pytest.param([[1, 2, INF], []], [1, 2, INF], id="the second has not begun"),
        pytest.param([[1, 3, INF], [1, 2]], [1, 3, INF], id="others being made do not hide"),
        pytest.param([[1, 2]], [1, 2, INF], id="+Inf is missing"),
    ],
)
def test_only_bounds_where_everybody_has_counted_are_shared(
    layouts: list[list[float]], shared: list[float]
) -> None:
    """A layout without +Inf has nothing beyond its last bound."""
    assert shared_bounds(layouts) == shared


def test_counts_are_brought_to_coarser_bounds() -> None:
    """What was counted up to a hidden bound belongs to the next one shown."""
    histogram = {1.0: 5.0, 2.0: 3.0, 4.0: 2.0, INF: 1.0}
    assert counts_between([2.0, INF], histogram) == [8.0, 3.0]
