"""A check of the families that a source gives: those that cannot be written are problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.exposition import LARGEST_TIME, METRIC_TYPES, TOTAL, Format, render_family
from mpmetrics.merging import MergedFamily
from mpmetrics.pages.source import describe_failure
from mpmetrics.pages.union import with_samples
from mpmetrics.parsing import PageFamily

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from mpmetrics.pages.source import Gathered


def drop_invalid_families(source: str, given: Gathered) -> Gathered:
    """Drop families without samples, and those that cannot be written; report the latter.

    Families that were merged or parsed here are valid. All others come from code that is not ours.
    """
    families: list[Metric] = []
    problems = list(given.problems)
    for family in given.families:
        try:
            families.extend(
                [family] if isinstance(family, MergedFamily | PageFamily) else _normalize(family)
            )
        except Exception as error:
            problems.append(describe_failure(source, error))
    return given._replace(families=families, problems=problems)


def _normalize(family: Metric) -> list[Metric]:
    """Return *family* with names and label values as they are written; nothing if it is empty.

    Raises whatever the family's faults make the writing raise.
    """
    if family.type not in METRIC_TYPES:
        message = f"{family.name!r} is of no known type: {family.type!r}"
        raise ValueError(message)
    samples = [_with_text_labels(sample) for sample in family.samples]
    if family.type == "counter":
        # prometheus_client's counters have the suffix. Without it a series could be there twice.
        total = family.name + TOTAL
        samples = [
            sample._replace(name=total) if sample.name == family.name else sample
            for sample in samples
        ]
    if not samples:
        return []
    if not family.name:
        message = "a family without a name"
        raise ValueError(message)
    normal = with_samples(family, samples)
    render_family(normal, Format(openmetrics=True))  # raises if it cannot be written
    return [normal]


def _with_text_labels(sample: Sample) -> Sample:
    """Return *sample* with text for label values.

    Raises `ValueError` for label names that a sample cannot have, and for a time that would make
    Prometheus refuse the page.
    """
    if sample.timestamp is not None and not 0 <= float(sample.timestamp) <= LARGEST_TIME:
        message = f"{sample.name!r} has the time {sample.timestamp!r}"
        raise ValueError(message)
    is_text = True
    for name, value in sample.labels.items():
        if not name or name.startswith("__"):
            message = f"{sample.name!r} has a label with the name {name!r}"
            raise ValueError(message)
        is_text = is_text and isinstance(value, str)
    if is_text:
        return sample
    return sample._replace(labels={name: str(value) for name, value in sample.labels.items()})
