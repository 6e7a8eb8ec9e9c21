"""Which events are of use to somebody who routes by prefixes, and why the others are not.

The reasons are Dynamo's, and so is what they are for: an engine with several kinds of attention
says of each block several times that it is stored, once for each group of layers. Only the groups
of full attention tell whether a prefix is there.
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
"""What engines call their mediums."""

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
"""Groups of all ranks that are remembered; engines have a handful."""

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


def medium_of(given: object) -> str | None:
    """Return the medium that an engine calls *given*, None if nobody knows it."""
    if given is None:
        return DEVICE
    return MEDIUMS.get(given.upper()) if isinstance(given, str) else None


class Gate:
    """Lets events of the main attention pass, by what it has learnt of the groups of each rank."""

    def __init__(self) -> None:
        """Begin without knowing any group."""
        self._groups: dict[tuple[int, int], str] = {}

    def rejection_reason(self, rank: int, fields: Mapping[Any, Any], *, is_store: bool) -> str:
        """Return why an event with these *fields* does not pass, "" if it does."""
        owner = fields.get("ownership")
        locality = fields.get("locality")
        if owner is not None and (reason := _by_owner(owner)):
            return reason
        if locality is not None and not (type(locality) is str and locality.upper() == "LOCAL"):
            return NON_LOCAL
        medium = medium_of(fields.get("medium"))
        if medium is None:
            return UNKNOWN_MEDIUM
        group, kind = fields.get("group_idx"), fields.get("kv_cache_spec_kind")
        return self.by_group(rank, medium, (group, kind), is_store=is_store)

    def by_group(
        self, rank: int, medium: str, group: tuple[object, object], *, is_store: bool
    ) -> str:
        """Return why an event of this *group*, its number and its kind, does not pass."""
        # What is on disk or elsewhere is told of once, whatever the group.
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


def _by_owner(owner: object) -> str:
    """Return why blocks of this *owner* do not pass, "" if they do."""
    return _OWNERS.get(owner.upper(), UNKNOWN_OWNER) if isinstance(owner, str) else UNKNOWN_OWNER
