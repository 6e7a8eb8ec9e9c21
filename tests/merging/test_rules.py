"""Each rule merges columns of values, for a page and for an archive."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.directory.files import GAUGE_MODES, PLAIN_TYPES
from mpmetrics.merging.rules import (
    FILE_SAMPLES,
    RULES,
    fold_newest,
    fold_total,
    largest,
    last,
    newest,
    smallest,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.merging.rules import Column

INF, NAN = math.inf, math.nan


def test_there_is_a_rule_for_every_type_and_mode() -> None:
    """Every type and gauge mode that a file name can have has a rule."""
    assert set(RULES) == {(kind, "") for kind in PLAIN_TYPES} | {("gauge", m) for m in GAUGE_MODES}


def test_live_modes_differ_in_what_becomes_of_the_dead_only() -> None:
    """A live mode merges live workers like the mode without `live`, and drops the dead."""
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
        pytest.param(smallest, [(NAN, 1.0), (2.0, NAN)], [2.0, 1.0], id="min skips NaN"),
        pytest.param(smallest, [(NAN,), (NAN,)], [NAN], id="min of NaN"),
        pytest.param(largest, [(1.0, 5.0), (3.0, INF)], [3.0, INF], id="max"),
        pytest.param(largest, [(NAN, 1.0), (2.0, NAN)], [2.0, 1.0], id="max skips NaN"),
        pytest.param(largest, [(NAN, NAN)], [NAN, NAN], id="max of one"),
        pytest.param(last, [(1.0,), (2.0,), (0.5,)], [0.5], id="last"),
        pytest.param(newest, [((1, 5.0),), ((2, 4.0),)], [4.0], id="newest"),
        pytest.param(newest, [((2, 5.0),), ((2, 6.0),)], [6.0], id="newest of a tie"),
        pytest.param(newest, [((0, 5.0),), ((0, 6.0),)], [None], id="newest of unset gauges"),
    ],
)
def test_a_rule_merges_position_by_position(
    rule: Callable[[Sequence[Column]], list[Any]], columns: list[Column], merged: list[Any]
) -> None:
    """A rule merges the values at each position of its columns, which are those of one series."""
    assert repr(rule(columns)) == repr(merged)


@pytest.mark.parametrize(
    ("rule", "columns", "folded"),
    [
        pytest.param(fold_total, [(1.0,), (3.0,)], [(4.0, 0.0)], id="sum"),
        pytest.param(fold_total, [(1e16,), (1.0,)], [(1e16, 1.0)], id="sum with a rest"),
        pytest.param(fold_total, [(INF,), (1.0,)], [(INF, 0.0)], id="infinite sum"),
        pytest.param(fold_total, [(INF,), (-INF,)], [(NAN, 0.0)], id="sum that is NaN"),
        pytest.param(fold_newest, [((1, 5.0),), ((2, 4.0),)], [(4.0, 2)], id="newest"),
        pytest.param(fold_newest, [((0, 5.0),), ((0, 0.0),)], [(5.0, 0)], id="unset gauges"),
        pytest.param(RULES["gauge", "min"].fold, [(2.0,), (1.0,)], [(1.0, 0.0)], id="min"),
    ],
)
def test_folding_returns_both_numbers_of_an_entry(
    rule: Callable[[Sequence[Column]], list[Any]],
    columns: list[Column],
    folded: list[tuple[float, float]],
) -> None:
    """Folding returns with each value what the next merge needs: a rest, or a timestamp."""
    assert repr(rule(columns)) == repr(folded)


def test_only_sums_have_rests() -> None:
    """The second number of an entry in an archive is a rest for sums, and for nothing else."""
    assert {rule.name for rule in RULES.values() if rule.has_rests} == {"sum"}
    assert {rule.name for rule in RULES.values() if rule.fold is fold_total} == {"sum"}


def test_samples_in_files_have_the_names_of_their_type() -> None:
    """A type has the same samples in files as on a page, but a counter may lack its `_total`."""
    assert FILE_SAMPLES == {
        "counter": {"_total": "_total", "": "_total"},
        "gauge": {"": ""},
        "summary": {"_sum": "_sum", "_count": "_count"},
        "histogram": {"_bucket": "_bucket", "_sum": "_sum", "_count": "_count"},
    }
