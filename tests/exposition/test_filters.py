"""Prefix filters and labels to inject: what a caller may pass, and what passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.errors import FilterError, LabelError
from mpmetrics.exposition import PrefixFilter, check_labels

if TYPE_CHECKING:
    from mpmetrics.exposition import Prefixes


@pytest.mark.parametrize(
    ("given", "prefixes"),
    [
        pytest.param(None, (), id="None"),
        pytest.param((), (), id="an empty tuple"),
        pytest.param([], (), id="an empty list"),
        pytest.param("a_", ("a_",), id="a string"),
        pytest.param(["a_", "b_"], ("a_", "b_"), id="a list"),
        pytest.param({"a_"}, ("a_",), id="a set"),
        pytest.param(["a_", ("b_", "c_"), ["d_"]], ("a_", "b_", "c_", "d_"), id="groups"),
    ],
)
def test_prefixes_are_one_or_several(given: Prefixes, prefixes: tuple[str, ...]) -> None:
    """A filter takes one prefix, any collection of them, and groups among them."""
    assert PrefixFilter.of(given, given) == PrefixFilter(prefixes, prefixes)


def test_prefixes_come_from_any_iterable() -> None:
    """A filter takes an iterator, which can be read only once."""
    assert PrefixFilter.of(iter(["a_", "b_"])).include == ("a_", "b_")


@pytest.mark.parametrize("given", ["", [""], ["a_", ""], [("a_", "")], 1, [1], [None], b"a_"])
def test_what_is_no_prefix_is_refused(given: Any) -> None:
    """A filter refuses an empty prefix, and what is not a string, on both sides."""
    with pytest.raises(FilterError, match="not a prefix to filter by"):
        PrefixFilter.of(include=given)
    with pytest.raises(FilterError, match="not a prefix to filter by"):
        PrefixFilter.of(exclude=given)


@pytest.mark.parametrize(
    ("include", "exclude", "name", "kind", "accepted"),
    [
        pytest.param((), (), "a", "gauge", True, id="no prefixes"),
        pytest.param("a_", (), "a_b", "gauge", True, id="included"),
        pytest.param("a_", (), "b_a_", "gauge", False, id="not at the beginning"),
        pytest.param(("x", "a_"), (), "a_b", "gauge", True, id="included by the second"),
        pytest.param((), "a_", "a_b", "gauge", False, id="excluded"),
        pytest.param((), "a_", "b", "gauge", True, id="not excluded"),
        pytest.param("a_", "a_b", "a_b", "gauge", False, id="both"),
        pytest.param("a_total", (), "a", "counter", True, id="counter with its suffix"),
        pytest.param((), "a_total", "a", "counter", False, id="counter excluded by its suffix"),
        pytest.param("a_total", (), "a", "gauge", False, id="suffix of another type"),
        pytest.param("a_bucket", (), "a", "histogram", False, id="sample of a histogram"),
        pytest.param("a_info", (), "a", "info", True, id="info"),
    ],
)
def test_a_filter_compares_names_of_families(
    include: str | tuple[str, ...],
    exclude: str | tuple[str, ...],
    name: str,
    kind: str,
    *,
    accepted: bool,
) -> None:
    """A family passes if its name or its name in text is included, and neither is excluded."""
    assert PrefixFilter.of(include, exclude).accepts(name, kind) is accepted


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [
        (None, ()),
        ({}, ()),
        ({"b": "2", "a": "", "_x1": "ä"}, (("_x1", "ä"), ("a", ""), ("b", "2"))),
    ],
)
def test_labels_are_sorted_pairs(labels: dict[str, str] | None, pairs: tuple[Any, ...]) -> None:
    """Labels to inject become pairs, sorted by name."""
    assert check_labels(labels) == pairs


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("", "x", "not a valid label name"),
        ("1a", "x", "not a valid label name"),
        ("a.b", "x", "not a valid label name"),
        (1, "x", "not a valid label name"),
        ("__name__", "x", "names that begin with __ are for Prometheus itself"),
        ("le", "x", "it names the bounds of histogram buckets"),
        ("quantile", "x", "it names the quantiles of summaries"),
        ("a", 1, "its value 1 is not a string"),
    ],
)
def test_labels_that_are_not_allowed_are_refused(name: Any, value: Any, why: str) -> None:
    """A label to inject is refused with its name and the reason."""
    with pytest.raises(LabelError) as caught:
        check_labels({"ok": "x", name: value})
    assert (caught.value.name, caught.value.why) == (name, why)
