"""The prefixes of lines: names and labels as a format writes them."""

from __future__ import annotations

import pytest

from mpmetrics.exposition import Format, LinePrefixes

LABELS = (("a", "x"), ("z", 'say "1\\2"\n'))


@pytest.mark.parametrize(
    ("form", "name", "labels", "prefix"),
    [
        pytest.param(Format(), "n", (), "n ", id="no labels"),
        pytest.param(Format(), "n", LABELS, 'n{a="x",z="say \\"1\\\\2\\"\\n"} ', id="escapes"),
        pytest.param(Format(), "a.b", (("c.d", ""),), 'a_b{c_d=""} ', id="underscores"),
        pytest.param(
            Format(escaping="allow-utf-8"), "a.b", (("c.d", ""),), '{"a.b","c.d"=""} ', id="quoted"
        ),
        pytest.param(
            Format(escaping="allow-utf-8"), "a.b", (), '{"a.b"} ', id="quoted without labels"
        ),
        pytest.param(
            Format(labels=(("a", "page"), ("m", "1"))), "n", (("a", "own"),), 'n{a="own",m="1"} ',
            id="added labels",
        ),
        pytest.param(
            Format(), "n", (("a.b", "1"), ("a_b", "2")), 'n{U__a_2e_b="1",a_b="2"} ',
            id="two names that become one",
        ),
        pytest.param(Format(), "n", (("..a", "1"),), 'n{U___2e__2e_a="1"} ', id="a reserved name"),
    ],
)  # fmt: skip
def test_a_prefix_has_name_and_labels(
    form: Format, name: str, labels: tuple[tuple[str, str], ...], prefix: str
) -> None:
    """A prefix is the same for one sample, for many, and put together from parts."""
    assert LinePrefixes(form).sample(name, labels) == prefix
    assert LinePrefixes(form).samples([(name, labels)]) == [prefix]
    prefixes = LinePrefixes(form)
    assert prefixes.join(name, *prefixes.split(labels, "le")) == prefix


def test_labels_are_split_around_a_name() -> None:
    """Labels are split where a label of the given name belongs by the alphabet."""
    prefixes = LinePrefixes(Format(labels=(("z", "1"),)))
    assert prefixes.split((("a", "x"), ("m", "y")), "le") == ('a="x"', 'm="y",z="1"')


def test_a_replaced_name_is_replaced_on_every_line() -> None:
    """A line is the same whether or not another line has had a name replaced before it."""
    series = [("n", (("a_b", "1"),)), ("n", (("a.b", "2"),)), ("n", (("a.b", "3"), ("a_b", "4")))]
    expected = ['n{a_b="1"} ', 'n{a_b="2"} ', 'n{U__a_2e_b="3",a_b="4"} ']
    assert LinePrefixes(Format()).samples(series) == expected
    prefixes = LinePrefixes(Format())
    assert [prefixes.sample(*each) for each in series] == expected
