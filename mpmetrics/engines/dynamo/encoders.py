"""The two forms in which a callback returns families: text, and Dynamo's typed families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from mpmetrics.exposition import Format, is_native, render_families

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import Metric

    from mpmetrics.engines.dynamo.endpoint import TypedFamily, TypedSample

Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class Encoder(Generic[Encoded]):  # Python 3.10 has no generic named tuple
    """One form of families: its *name*, and the function that makes it."""

    name: str
    encode: Callable[[Sequence[Metric]], Encoded]


def _encode_text(families: Sequence[Metric]) -> str:
    return render_families(families, Format()).decode()


def _encode_typed(families: Sequence[Metric]) -> list[TypedFamily]:
    """Encode *families* without native histograms, which Dynamo's type cannot hold."""
    typed: list[TypedFamily] = []
    for family in families:
        samples = [_encode_sample(sample) for sample in family.samples if not is_native(sample)]
        if samples:
            typed.append((family.name, family.documentation, family.type, family.unit, samples))
    return typed


def _encode_sample(sample: Any) -> TypedSample:
    labels = sorted((name, str(value)) for name, value in sample.labels.items())
    timestamp = None if sample.timestamp is None else float(sample.timestamp)
    return sample.name, labels, float(sample.value), timestamp


TEXT: Final = Encoder("text", _encode_text)
"""Prometheus' text format, "" for no families."""

TYPED: Final = Encoder("typed", _encode_typed)
"""A list of `TypedFamily`, as Dynamo's typed callback returns it."""
