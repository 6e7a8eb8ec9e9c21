"""Families of several sources that become one list of families."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import Metric
from prometheus_client.samples import Sample

from mpmetrics.errors import Problem
from mpmetrics.merging import MergedFamily, PlainNaming, Template
from mpmetrics.pages.union import Contribution, add_labels, join_families, with_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def family(name: str, kind: str, samples: Mapping[str, float], help_text: str = "") -> Metric:
    """Return a family with *samples* by name, or by name and the value of a label `of`."""
    made = with_samples(Metric("made", help_text, kind), [])
    made.name = name
    for key, value in samples.items():
        sample, _, label = key.partition(" ")
        made.samples.append(Sample(sample, {"of": label} if label else {}, value))
    return made


def merged(name: str, kind: str, samples: Mapping[str, float]) -> MergedFamily:
    """Return a family of the merged view."""
    return MergedFamily(
        Template(name, kind, "", PlainNaming((sample, ()) for sample in samples)),
        list(samples.values()),
    )


def gives(source: str, *families: Metric, in_process: bool = False) -> Contribution:
    """Return the contribution of a *source*."""
    return Contribution(source, in_process, families)


Shown = dict[str, tuple[str, dict[str, float]]]


def shown(families: list[Metric]) -> Shown:
    """Return type and samples of each family, by name; the order is kept."""
    return {
        each.name: (
            each.type,
            {" ".join([one.name, *one.labels.values()]): one.value for one in each.samples},
        )
        for each in families
    }


JOINED: dict[str, tuple[list[Contribution], Shown, list[int]]] = {
    "nothing": ([], {}, []),
    "families are sorted by name": (
        [gives("a", family("z", "gauge", {"z": 1})), gives("b", family("y", "gauge", {"y": 2}))],
        {"y": ("gauge", {"y": 2}), "z": ("gauge", {"z": 1})},
        [1, 0],
    ),
    "series of one family are joined": (
        [
            gives("a", family("g", "gauge", {"g x": 1})),
            gives("b", family("g", "gauge", {"g y": 2, "g": 3})),
        ],
        {"g": ("gauge", {"g x": 1, "g y": 2, "g": 3})},
        [0],
    ),
    "the merged view comes before another source of the same family": (
        [
            gives("a", family("g", "gauge", {"g x": 2})),
            gives("b", merged("g", "gauge", {"g": 10})),
        ],
        {"g": ("gauge", {"g": 10, "g x": 2})},
        [1],
    ),
    "an info and the gauge that text makes of it are one": (
        [
            gives("a", family("i", "info", {"i_info x": 1})),
            gives("b", family("i_info", "gauge", {"i_info y": 1})),
        ],
        {"i": ("info", {"i_info x": 1, "i_info y": 1})},
        [0],
    ),
    "a source need not know the type": (
        [
            gives("a", family("c_total", "unknown", {"c_total x": 1})),
            gives("b", family("c", "counter", {"c_total y": 2})),
        ],
        {"c": ("counter", {"c_total x": 1, "c_total y": 2})},
        [0],
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_families_are_joined(name: str) -> None:
    """Each family and each series stands in the union once, with the value that came first."""
    contributions, expected, owners = JOINED[name]
    joined = join_families(contributions)
    assert list(shown(joined.families).items()) == list(expected.items())
    assert (joined.owners, joined.shadowed, joined.problems) == (owners, 0, [])


@pytest.mark.parametrize("kind", [family, merged])
def test_of_equal_series_the_first_is_kept_and_the_other_reported(
    kind: Callable[[str, str, dict[str, float]], Metric],
) -> None:
    """Of equal series the first is kept, the merged one before others, and each other reported."""
    first = kind("g", "gauge", {"g": 1})
    second = family("g", "gauge", {"g": 2, "g y": 3})
    order = [gives("a", first), gives("b", second)]
    for contributions in (order, order[::-1] if kind is merged else order):
        joined = join_families(contributions)
        assert shown(joined.families) == {"g": ("gauge", {"g": 1, "g y": 3})}
        detail = "g {} is there already; left out here"
        assert joined.problems == [Problem("b", "repeated_series", detail)]


def test_a_series_may_have_several_times() -> None:
    """Samples of one source that differ in time are kept; those of another source are not."""
    samples = [Sample("g", {}, 1, 1.5), Sample("g", {}, 2, 2.5)]
    first, second = family("g", "gauge", {}), family("g", "gauge", {})
    first.samples, second.samples = samples, [Sample("g", {}, 3, 3.5)]
    joined = join_families([gives("a", first), gives("b", second)])
    assert joined.families[0].samples == samples
    assert [problem.path for problem in joined.problems] == ["b"]


def test_a_gauge_and_a_counter_of_the_same_name_are_two() -> None:
    """In the text format a counter has its suffix, so a gauge `x` is another family."""
    gauge, counter = family("x", "gauge", {"x": 1}), family("x", "counter", {"x_total": 2})
    for contributions in ([gauge, counter], [counter, gauge]):
        joined = join_families([gives("a", contributions[0]), gives("b", contributions[1])])
        assert joined.families == [gauge, counter]
        assert joined.problems == []


@pytest.mark.parametrize("merged_first", [True, False])
def test_the_merged_view_shadows_in_process_families(*, merged_first: bool) -> None:
    """An in-process family is dropped as a whole, and counted, where the merged view has it."""
    view = gives("directory", merged("c", "counter", {"c_total": 10}))
    own = gives(
        "registry",
        family("c", "counter", {"c_total": 1, "c_total x": 2}),
        family("g", "gauge", {"g": 3}),
        in_process=True,
    )
    joined = join_families([view, own] if merged_first else [own, view])
    assert shown(joined.families) == {
        "c": ("counter", {"c_total": 10}),
        "g": ("gauge", {"g": 3}),
    }
    assert (joined.shadowed, joined.problems) == (1, [])


def test_a_merged_family_alone_is_not_copied() -> None:
    """A merged family that no other source has stays the object that it was."""
    view = merged("g", "gauge", {"g": 1})
    assert join_families([gives("directory", view)]).families[0] is view


def test_a_family_of_another_type_keeps_its_series() -> None:
    """The first type of a name wins; the other source has a problem that names both types."""
    joined = join_families(
        [
            gives("a", family("x", "gauge", {"x": 1})),
            gives("b", family("x", "summary", {"x y": 3, "x_sum": 2})),
        ]
    )
    assert shown(joined.families) == {
        "x": ("gauge", {"x": 1, "x y": 3}),
        "x_sum": ("unknown", {"x_sum": 2}),
    }
    detail = "family 'x' is 'summary' here but 'gauge' elsewhere"
    ending = "; its series are shown without that type"
    assert joined.problems == [Problem("b", "type_conflict", detail + ending)]


CLASHES: dict[str, tuple[Metric, Metric, str, Shown, Shown]] = {
    "a summary and a gauge": (
        family("x", "summary", {"x_sum": 1, "x_count": 1}),
        family("x_count", "gauge", {"x_count y": 2}),
        "x_count",
        {"x": ("summary", {"x_sum": 1, "x_count": 1, "x_count y": 2})},
        {
            "x_count": ("gauge", {"x_count y": 2, "x_count": 1}),
            "x_sum": ("unknown", {"x_sum": 1}),
        },
    ),
    "a merged histogram and a gauge": (
        merged("x", "histogram", {"x_sum": 1}),
        family("x_bucket", "gauge", {"x_bucket": 2}),
        "x_bucket",
        {"x": ("histogram", {"x_sum": 1, "x_bucket": 2})},
        {"x_bucket": ("gauge", {"x_bucket": 2}), "x_sum": ("unknown", {"x_sum": 1})},
    ),
    "a sample that its type does not have": (
        family("x", "gauge", {"x": 1, "y": 1}),
        family("y", "gauge", {"y y": 2}),
        "y",
        {"x": ("gauge", {"x": 1, "y": 1, "y y": 2})},
        {"x": ("unknown", {"x": 1}), "y": ("gauge", {"y y": 2, "y": 1})},
    ),
    "a summary and the histogram of its count": (
        family("x", "summary", {"x_count": 1}),
        family("x_count", "histogram", {"x_count_count": 2}),
        "x_count",
        {
            "x": ("summary", {"x_count": 1}),
            "x_count_count": ("unknown", {"x_count_count": 2}),
        },
        {"x_count": ("histogram", {"x_count_count": 2, "x_count": 1})},
    ),
}


@pytest.mark.parametrize("name", CLASHES)
def test_of_two_families_that_expose_one_name_the_first_source_has_it(name: str) -> None:
    """The second family loses its type and no series, and is reported, whatever the order is."""
    one, other, taken, *expected = CLASHES[name]
    for (first, second), families in zip(((one, other), (other, one)), expected, strict=True):
        joined = join_families([gives("a", first), gives("b", second)])
        assert shown(joined.families) == families
        detail = (
            f"families {second.name!r} and {first.name!r} both expose {taken!r}; "
            "its series are shown without that type"
        )
        assert joined.problems == [Problem("b", "name_clash", detail)]


def test_in_a_clash_equal_series_are_there_once() -> None:
    """Of equal series of two families that expose one name the first is kept, also of a third."""
    names = [("x", "summary"), ("x_count", "gauge"), ("x_count", "histogram")]
    joined = join_families(
        [
            gives(str(at), family(name, kind, {"x_count": at, f"x_count {at}": at}))
            for at, (name, kind) in enumerate(names)
        ]
    )
    series = {"x_count": 0, "x_count 0": 0, "x_count 1": 1, "x_count 2": 2}
    assert shown(joined.families) == {"x": ("summary", series)}
    assert {(problem.path, problem.reason) for problem in joined.problems} == {
        ("1", "name_clash"),
        ("1", "repeated_series"),
        ("2", "type_conflict"),
        ("2", "repeated_series"),
    }


def test_the_share_of_one_process_is_not_added_to_a_merged_family() -> None:
    """In a clash with the merged view, an in-process family is left out, and reported."""
    view = gives("directory", merged("x", "histogram", {"x_sum": 1}))
    own = gives("registry", family("x_sum", "gauge", {"x_sum y": 2}), in_process=True)
    joined = join_families([view, own])
    assert shown(joined.families) == {"x": ("histogram", {"x_sum": 1})}
    detail = "families 'x_sum' and 'x' both expose 'x_sum'; left out here"
    assert joined.problems == [Problem("registry", "name_clash", detail)]


def test_help_is_that_of_the_first_source() -> None:
    """A family that two sources have carries the help text of the first."""
    joined = join_families(
        [
            gives("a", family("g", "gauge", {"g x": 1}, "first")),
            gives("b", family("g", "gauge", {"g y": 1}, "second")),
        ]
    )
    assert [each.documentation for each in joined.families] == ["first"]


def test_what_was_given_is_not_changed() -> None:
    """Joining and labelling leave the families of the sources unchanged."""
    given = [family("g", "gauge", {"g x": 1}), family("g", "gauge", {"g y": 2})]
    before = shown(given[:1]), shown(given[1:])
    joined = join_families([gives("a", given[0]), gives("b", given[1])])
    add_labels(joined.families[0], (("zone", "z"),))
    add_labels(given[0], (("zone", "z"),))
    assert (shown(given[:1]), shown(given[1:])) == before


@pytest.mark.parametrize("make", [family, merged])
def test_a_label_of_the_series_beats_one_that_is_added(
    make: Callable[[str, str, Mapping[str, float]], Metric],
) -> None:
    """`add_labels` adds a label to each sample that lacks it, and returns the rest as it was."""
    labelled = add_labels(make("g", "gauge", {"g": 1.0}), (("zone", "z"),))
    assert [sample.labels for sample in labelled.samples] == [{"zone": "z"}]
    again = add_labels(labelled, (("host", "h"), ("zone", "other")))
    assert [sample.labels for sample in again.samples] == [{"zone": "z", "host": "h"}]
    assert add_labels(again, ()) is again
