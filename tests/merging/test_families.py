"""Merged families write themselves, and build samples when asked for them."""

from __future__ import annotations

import pytest
from prometheus_client import Metric
from prometheus_client.samples import Sample

from mpmetrics.exposition import Format
from mpmetrics.merging import MergedFamily, PlainNaming, Template

TEXT, OPENMETRICS = Format(), Format(openmetrics=True)


def template(*, some_may_lack: bool = False) -> Template:
    """Return the template of a gauge with three series."""
    naming = PlainNaming([("g", ()), ("g", (("a", "x"),)), ("g", (("a", "y"), ("b", 'q"')))])
    return Template("g", "gauge", "Help.", naming, some_may_lack=some_may_lack)


def test_a_family_is_a_metric_of_prometheus_client() -> None:
    """A merged family is a `Metric` with its name, type, help, unit and samples."""
    family = MergedFamily(template(), [1.0, 2.0, 3.0])
    assert isinstance(family, Metric)
    assert (family.name, family.type, family.documentation, family.unit) == (
        *("g", "gauge", "Help.", ""),
    )
    assert family.samples == [
        Sample("g", {}, 1.0),
        Sample("g", {"a": "x"}, 2.0),
        Sample("g", {"a": "y", "b": 'q"'}, 3.0),
    ]


def test_samples_belong_to_the_caller() -> None:
    """A family keeps the list of samples that it has returned, or that it was given."""
    family = MergedFamily(template(), [1.0, 2.0, 3.0])
    family.samples.pop()
    assert len(family.samples) == 2
    family.samples = []
    assert family.samples == []


def test_a_series_without_a_value_is_left_out() -> None:
    """A series whose value is None has neither a sample nor a line."""
    family = MergedFamily(template(some_may_lack=True), [None, 2.0, None])
    assert family.samples == [Sample("g", {"a": "x"}, 2.0)]
    assert family.text(TEXT) == '# HELP g Help.\n# TYPE g gauge\ng{a="x"} 2.0\n'
    assert family.has_samples


def test_a_family_without_any_value_has_no_text() -> None:
    """A family all of whose series lack a value has no header either."""
    family = MergedFamily(template(some_may_lack=True), [None, None, None])
    assert (family.samples, family.text(TEXT), family.has_samples) == ([], "", False)


@pytest.mark.parametrize("some_may_lack", [False, True])
def test_a_template_writes_the_values_of_every_scrape(*, some_may_lack: bool) -> None:
    """The text has the values of its own scrape, whatever was written before."""
    of_all = template(some_may_lack=some_may_lack)
    for values in ([1.0, 2.0, 3.0], [1.0, -0.0, 3.0], [1.0, 0.0, 1e7], [1.0, 2.0, 3.0]):
        first, second, third = ("1e+07" if value == 1e7 else repr(value) for value in values)
        assert MergedFamily(of_all, values).text(TEXT) == (
            "# HELP g Help.\n# TYPE g gauge\n"
            f'g {first}\ng{{a="x"}} {second}\ng{{a="y",b="q\\""}} {third}\n'
        )


def test_the_same_values_are_written_once() -> None:
    """A second text of the same values is the same object as the first."""
    family = MergedFamily(template(), [1.0, 2.0, 3.0])
    assert family.text(TEXT) is family.text(TEXT)


def test_each_format_has_a_text_of_its_own() -> None:
    """A template remembers its text for each format, and for more formats than it remembers."""
    counter = Template("c", "counter", 'a "b"', PlainNaming([("c_total", ())]))
    family = MergedFamily(counter, [1.0])
    assert family.text(TEXT) == '# HELP c_total a "b"\n# TYPE c_total counter\nc_total 1.0\n'
    assert family.text(OPENMETRICS) == '# HELP c a \\"b\\"\n# TYPE c counter\nc_total 1.0\n'
    for number in range(20):
        labels = (("n", str(number)),)
        assert f'c_total{{n="{number}"}} 1.0\n' in family.text(Format(labels=labels))
    assert family.text(OPENMETRICS).startswith("# HELP c a")


def test_added_labels_are_in_samples_and_text() -> None:
    """Added labels are on every series but those that have a label of the same name."""
    family = MergedFamily(template(), [1.0, 2.0, 3.0]).with_labels((("a", "new"), ("z", "1")))
    assert [sample.labels for sample in family.samples] == [
        {"a": "new", "z": "1"},
        {"a": "x", "z": "1"},
        {"a": "y", "b": 'q"', "z": "1"},
    ]
    assert family.text(TEXT).splitlines()[2:] == [
        'g{a="new",z="1"} 1.0',
        'g{a="x",z="1"} 2.0',
        'g{a="y",b="q\\"",z="1"} 3.0',
    ]


def test_labels_that_were_added_first_win() -> None:
    """Of labels of one name, those of the family beat later ones, and these the format's."""
    family = MergedFamily(template(), [1.0, 2.0, 3.0])
    labelled = family.with_labels((("z", "inner"),)).with_labels((("y", "1"), ("z", "outer")))
    assert labelled.samples[0].labels == {"y": "1", "z": "inner"}
    form = Format(labels=(("w", "page"), ("z", "page")))
    assert labelled.text(form).splitlines()[2] == 'g{w="page",y="1",z="inner"} 1.0'
    assert family.samples[0].labels == {}
