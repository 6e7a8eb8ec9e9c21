"""The filter for events that routing by prefixes can use, and the reasons for rejecting others.

The reasons are Dynamo's, and so is their purpose: an engine with several kinds of attention
publishes each block several times, once for each group of layers. Only the groups of full attention
show whether a prefix is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.model import DEVICE, DISK, EXTERNAL, HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIUMS: Final[Mapping[str, str]] = {
    "": DEVICE,
    **dict.fromkeys(("GPU", "DEVICE"), DEVICE),
    **dict.fromkeys(("CPU", "CPU_PINNED", "CPU_TIER1"), HOST),
    **dict.fromkeys(("CPU_TIER2", "DISK", "NVME", "STORAGE"), DISK),
    **dict.fromkeys(("EXTERNAL", "NETWORK", "REMOTE", "SHARED"), EXTERNAL),
}
"""The mediums, by the names that engines give them."""

IGNORED: Final = "ignored_event"
NON_LOCAL: Final = "non_local_locality"
UNKNOWN_MEDIUM: Final = "unknown_medium"
UNSUPPORTED_OWNER: Final = "unsupported_ownership"
UNKNOWN_OWNER: Final = "unknown_ownership"
OTHER_KIND: Final = "non_main_attention_kind"
UNKNOWN_KIND: Final = "unknown_kind"
OTHER_GROUP: Final = "non_main_attention_group"
UNLEARNED_GROUP: Final = "unlearned_group_idx"

_MOST_GROUPS: Final = 4096
"""The largest number of groups to remember, of all ranks; engines have a handful."""

_OWNERS: Final = {None: "", "FRAMEWORK": "", "KVCR": UNSUPPORTED_OWNER}

_MAIN: Final = frozenset({"full_attention", "mla_attention"})
_OTHERS: Final = frozenset(
    {
        "sliding_window",
        "sliding_window_mla",
        "chunked_local_attention",
        "mamba",
        "sink_full_attention",
        "encoder_only_attention",
        "cross_attention",
    }
)
_KINDS: Final = {
    **dict.fromkeys(_MAIN, ""),
    **dict.fromkeys(_OTHERS, OTHER_KIND),
}


def normalize_medium(name: object) -> str | None:
    """Return the medium that an engine calls *name*, None if it is unknown."""
    if name is None:
        return DEVICE
    return MEDIUMS.get(name.upper()) if isinstance(name, str) else None


class AttentionFilter:
    """A filter for events of the main attention; it learns a rank's groups from their stores."""

    def __init__(self) -> None:
        """Know no group."""
        self._groups: dict[tuple[int, int], str] = {}

    def rejection_reason(self, rank: int, fields: Mapping[Any, Any], *, is_store: bool) -> str:
        """Return the reason for rejecting an event with these *fields*, "" to accept it."""
        owner = fields.get("ownership")
        locality = fields.get("locality")
        if owner is not None and (reason := _owner_rejection(owner)):
            return reason
        if locality is not None and not (type(locality) is str and locality.upper() == "LOCAL"):
            return NON_LOCAL
        medium = normalize_medium(fields.get("medium"))
        if medium is None:
            return UNKNOWN_MEDIUM
        group, kind = fields.get("group_idx"), fields.get("kv_cache_spec_kind")
        return self.group_rejection(rank, medium, (group, kind), is_store=is_store)

    def group_rejection(
        self, rank: int, medium: str, group: tuple[object, object], *, is_store: bool
    ) -> str:
        """Return the reason for rejecting an event of this *group*, a number and a kind."""
        # Engines publish blocks on disk or elsewhere once, not for each group.
        if medium in {DISK, EXTERNAL}:
            return ""
        number, kind = group
        if kind is not None:
            reason = _KINDS.get(kind, UNKNOWN_KIND) if isinstance(kind, str) else UNKNOWN_KIND
            if is_store and type(number) is int and len(self._groups) < _MOST_GROUPS:
                self._groups[rank, number] = reason
            return reason
        if type(number) is not int:
            return ""
        if (known := self._groups.get((rank, number))) is not None:
            return OTHER_GROUP if known == OTHER_KIND else known
        return UNLEARNED_GROUP if number else ""


def _owner_rejection(owner: object) -> str:
    """Return the reason for rejecting blocks of this *owner*, "" to accept them."""
    return _OWNERS.get(owner.upper(), UNKNOWN_OWNER) if isinstance(owner, str) else UNKNOWN_OWNER
