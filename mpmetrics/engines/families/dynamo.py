"""The families of a Dynamo component.

Those of `COMPONENT_FAMILIES` are what the stat loggers of this project show. The others are
Dynamo's own, in registries that it passes to its endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics.engines.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.families.family import Edges

_RANK: Final = ("model", "dynamo_component", "dp_rank")

COMPONENT_FAMILIES: Final[Sequence[Family]] = (
    Family("dynamo_component_total_blocks", "gauge", _RANK, "Blocks of the KV cache", "max"),
    Family(
        "dynamo_component_gpu_cache_usage_percent",
        "gauge",
        _RANK,
        "Share of the KV cache that is in use, 0 to 1",
        "max",
    ),
    Family(
        "dynamo_component_kv_cache_hit_rate",
        "gauge",
        _RANK,
        "Share of the tokens last looked for that the prefix cache had, 0 to 1",
        "max",
    ),
    Family(
        "dynamo_component_model_load_time_seconds",
        "gauge",
        _RANK[:2],
        "Time that it took to load the model",
        "max",
    ),
)

_EMBEDDINGS: Final = "a cache of multi-modal embeddings"
_IMAGES: Final = "a loader of images"
_OUTCOME: Final = ("outcome", "size_bucket")
_IMAGE_SECONDS: Final[Edges] = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4),
)


def _own(
    name: str,
    kind: str,
    meaning: str,
    condition: str,
    *,
    labels: tuple[str, ...] = (),
    buckets: Edges = (),
) -> Family:
    """Return a family that Dynamo itself registers, which never reaches files."""
    mode = "all" if kind == "gauge" else ""
    return Family(
        f"dynamo_component_{name}",
        kind,
        (*_RANK[:2], *labels),
        meaning,
        mode,
        buckets,
        in_files=False,
        condition=condition,
    )


DYNAMO_FAMILIES: Final[Sequence[Family]] = (
    *COMPONENT_FAMILIES,
    *(
        _own(f"embedding_cache_{name}", kind, meaning, _EMBEDDINGS)
        for name, kind, meaning in (
            ("hits_total", "counter", "Embeddings that the cache had"),
            ("misses_total", "counter", "Embeddings that the cache did not have"),
            ("evictions_total", "counter", "Embeddings dropped to make room for others"),
            ("utilization", "gauge", "Share of the cache that is in use, 0 to 1"),
            ("current_bytes", "gauge", "Bytes in the cache"),
            ("entries", "gauge", "Embeddings in the cache"),
        )
    ),
    _own("image_cache_entries", "gauge", "Images in the cache", _IMAGES),
    *(
        _own(
            f"image_shared_cache_{operation}_duration_seconds",
            "histogram",
            f"Duration of a {operation} in the cache that workers share, by outcome",
            _IMAGES,
            labels=_OUTCOME,
            buckets=_IMAGE_SECONDS,
        )
        for operation in ("get", "set")
    ),
)
