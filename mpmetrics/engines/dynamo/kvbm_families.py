"""What Dynamo's KV block manager (KVBM) counts, under which names.

Upstream (`lib/llm/src/block_manager/metrics_kvbm.rs`) has counters without `_total`, no labels, and
names such as `h2d`, which is host to disk for one counter and host to device for another. These
names are kept. For each of them there is the same name with `_total`; both have no type, because a
counter of the one name would claim the other as well. And there are real counters, with the tiers
as labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.exposition import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

PREFIX: Final = "kvbm_"


class Transfer(NamedTuple):
    """A transfer of blocks between two tiers, and the counter *family* that counts it."""

    family: str
    source: str
    target: str


TRANSFERS: Final[Mapping[str, Transfer]] = {
    "offload_blocks_d2h": Transfer("offload_blocks", "device", "host"),
    "offload_blocks_h2d": Transfer("offload_blocks", "host", "disk"),
    "offload_blocks_d2d": Transfer("offload_blocks", "device", "disk"),
    "offload_blocks_d2o": Transfer("offload_blocks", "device", "object"),
    "onboard_blocks_h2d": Transfer("onboard_blocks", "host", "device"),
    "onboard_blocks_d2d": Transfer("onboard_blocks", "disk", "device"),
    "onboard_blocks_o2d": Transfer("onboard_blocks", "object", "device"),
}
"""Upstream's counters of blocks, and what their letters stand for."""

TRANSFER_COUNTERS: Final[Mapping[str, str]] = {
    "offload_blocks": "Blocks that went to a tier further away",
    "onboard_blocks": "Blocks that were brought back to the device",
}
"""The help of the counters with the tiers as labels."""

COUNTERS: Final[Mapping[str, str]] = {
    "matched_tokens": "Tokens of requests that were found in some tier",
    "requested_tokens": "Tokens of requests: what kvbm_matched_tokens is a share of",
    "object_read_failures": "Failed reads from the object store",
    "object_write_failures": "Failed writes to the object store",
}
"""The help of the counters without labels."""

_UPSTREAM_COUNTERS: Final = frozenset(COUNTERS) - {"requested_tokens"}

RATED_TIERS: Final = ("host", "disk", "object")
"""The tiers that have a hit rate."""

TAKEN_NAMES: Final = frozenset(
    f"{PREFIX}{name}{suffix}"
    for name in (
        *TRANSFERS,
        *COUNTERS,
        *TRANSFER_COUNTERS,
        *(f"{tier}_cache_hit_rate" for tier in RATED_TIERS),
    )
    for suffix in ("", TOTAL)
)
"""Names that no other metric can have, since they are always on the page."""


def add_upstream_names(family: Metric) -> Iterator[Metric]:
    """Yield *family*, one of the counters of this module, under all names that it has.

    Upstream's names and those with `_total` have no type; a family that is not one of ours is
    yielded unchanged.
    """
    name = family.name.removeprefix(PREFIX)
    # Without the samples that tell when the counter was created.
    totals = [sample for sample in family.samples if sample.name.endswith(TOTAL)]
    if name in _UPSTREAM_COUNTERS:
        yield from _make_untyped(family.name, family.documentation, totals)
        return
    yield family
    for upstream_name, transfer in TRANSFERS.items():
        if transfer.family == name:
            tiers = {"source": transfer.source, "target": transfer.target}
            samples = [
                sample._replace(labels=dict(sample.labels.items() - tiers.items()))
                for sample in totals
                if tiers.items() <= sample.labels.items()
            ]
            text = f"Blocks from {transfer.source} to {transfer.target}"
            yield from _make_untyped(PREFIX + upstream_name, text, samples)


def make_hit_rate(tier: str, rate: float, labels: Mapping[str, str]) -> Metric:
    """Make upstream's gauge with the hit *rate* of a *tier*."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        f"{PREFIX}{tier}_cache_hit_rate",
        f"Share of the blocks looked for that the {tier} had, of the last requests",
        labels=list(labels),
    )
    family.add_metric(list(labels.values()), rate)
    return family


def _make_untyped(name: str, documentation: str, totals: Sequence[Sample]) -> Iterator[Metric]:
    """Yield a family under upstream's *name*, and the same with `_total`."""
    from prometheus_client import Metric as Family

    for alias in (name, name + TOTAL):
        family = Family(alias, documentation, "unknown")
        family.samples = [sample._replace(name=alias) for sample in totals]
        yield family
