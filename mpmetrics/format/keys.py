"""From a raw key to its meaning: family, sample, labels, help.

A key is the JSON array ``[family, sample name, {label: value}, help]`` (prometheus_client,
``mmap_dict.mmap_key``). Its text identifies a series within one file only, because HELP is part
of it and JSON has several spellings. Across files, only a parsed `Key` can be compared.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from mpmetrics.errors import DamagedError
from mpmetrics.format.codec import LENGTH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

Labels = tuple[tuple[str, str], ...]
"""Label pairs, sorted by name."""

SeriesName = tuple[str, Labels, str | None]
"""The identity of a series among those of one kind: sample name, other labels, the label `le`."""

Key = tuple[str, SeriesName, str]
"""The meaning of a raw key: family, series, help.

It is a plain tuple, because there is one for each series: the garbage collector soon stops
tracking tuples of text, but it tracks instances of other classes as long as they live.
"""

BUCKET_LABEL: Final = "le"
"""The label by which the buckets of one histogram differ: "less than or equal"."""

_JSON_BLANKS: Final = " \t\n\r"

_BEFORE_BOUND: Final = b'"le": "'

_decoder = json.JSONDecoder()


def parse_key(raw: bytes) -> Key:
    """Return the meaning of a *raw* key (length field and JSON).

    Raises `DamagedError` for bytes that are not UTF-8, not JSON, or not of the shape above. Its
    offset is 0: only the caller knows the offset of the key.
    """
    try:
        text = str(raw[LENGTH_SIZE:], "utf-8").strip(_JSON_BLANKS)
        decoded, end = _decoder.raw_decode(text)
        if "\\ud" in text or "\\uD" in text:
            decoded = _without_surrogates(decoded)
    except (ValueError, RecursionError) as error:
        raise DamagedError(0, f"a key that is not UTF-8 JSON: {_excerpt(raw)}") from error
    if end != len(text):
        raise DamagedError(0, f"a key with something behind it: {_excerpt(raw)}")
    try:
        family, sample, labels, help_text = decoded
        # Joining is the fastest way to check that all of them are strings.
        "".join((family, sample, help_text, *labels.values()))
        bound = labels.pop(BUCKET_LABEL, None)
        pairs = tuple(sorted(labels.items()))
    except (TypeError, ValueError, AttributeError) as error:
        raise DamagedError(0, f"a key of another shape: {_excerpt(raw)}") from error
    if not (family and sample and all(map(_is_label_name, labels))):
        raise DamagedError(0, f"a key with a name that is empty or reserved: {_excerpt(raw)}")
    return family, (sample, pairs, bound), help_text


def format_key(family: str, sample: str, labels: Labels, help_text: str) -> bytes:
    """Return the JSON of a key, spelt exactly as prometheus_client spells it."""
    return json.dumps([family, sample, dict(labels), help_text], sort_keys=True).encode()


def _is_label_name(name: str) -> bool:
    """Return whether a label may have this *name*: not empty, not reserved for Prometheus."""
    return name != "" and name[:2] != "__"


class KeyTable:
    """The meanings of all raw keys in use.

    Parts of keys repeat: a family's name and help for each of its series, a set of labels for
    each family that has it, and nearly all of a bucket's key for the next bucket. Each part is
    parsed once, and a key of known parts is put together from them.

    A part is remembered only if its bytes can mean nothing else: names and help in the spelling
    of prometheus_client and without braces, labels that stand between such names and help, and a
    bound without escapes that stands in its key once.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.meanings: dict[bytes, Key] = {}
        self._names: dict[tuple[bytes, bytes], tuple[str, str, str]] = {}
        self._labels: dict[bytes, Labels] = {}
        self._around: dict[bytes, tuple[str, str, Labels, str]] = {}
        self._bounds: dict[bytes, str] = {}

    def learn(self, raws: Iterable[bytes]) -> None:
        """Parse each of the raw keys *raws* that is new.

        Raises `DamagedError`, as `parse_key` does, at the first one that is damaged.
        """
        meanings, around, bounds = self.meanings, self._around, self._bounds
        for raw in raws:
            if raw in meanings:
                continue
            before = raw.find(_BEFORE_BOUND)
            if before < 0:
                meanings[raw] = self._parse_plain(raw)
                continue
            # Within a JSON string the quotes would be escaped, so this can only be the label
            # itself, or the end of a longer label name that ends in an escaped quote.
            start = before + len(_BEFORE_BOUND)
            end = raw.find(b'"', start)
            known = around.get(raw[LENGTH_SIZE:start] + raw[end:])
            bound = bounds.get(raw[start:end])
            if known is None or bound is None:
                meanings[raw] = self._parse_bucket(raw, start, end)
            else:
                family, sample, labels, help_text = known
                meanings[raw] = family, (sample, labels, bound), help_text

    def _parse_plain(self, raw: bytes) -> Key:
        """Return the meaning of a key without a bound.

        Its labels stand between the first opening brace and the last closing one: names and help
        with braces are not remembered.
        """
        opening, closing = raw.find(b"{"), raw.rfind(b"}") + 1
        names = self._names.get((raw[LENGTH_SIZE:opening], raw[closing:]))
        if names is not None:
            family, sample, help_text = names
            text = raw[opening:closing]
            labels = self._labels.get(text)
            if labels is not None:
                return family, (sample, labels, None), help_text
        key = parse_key(raw)
        family, (sample, labels, bound), help_text = key
        if bound is None and self._remember_names(raw, key, opening, closing):
            self._labels[raw[opening:closing]] = labels
        return key

    def _remember_names(self, raw: bytes, key: Key, opening: int, closing: int) -> bool:
        """Remember the names and the help around the labels; return whether that is possible."""
        family, (sample, _, _), help_text = key
        parts = raw[LENGTH_SIZE:opening], raw[closing:]
        if parts in self._names:
            return True
        start = f"[{json.dumps(family)}, {json.dumps(sample)}, ".encode()
        if parts != (start, f", {json.dumps(help_text)}]".encode()):
            return False
        self._names[parts] = family, sample, help_text
        return True

    def _parse_bucket(self, raw: bytes, start: int, end: int) -> Key:
        """Parse *raw*; remember its bound, from *start* to *end*, and the bytes around it.

        Neither is remembered if the label is missing, is there twice, or has escapes in its name
        or value.
        """
        key = parse_key(raw)
        family, (sample, labels, bound), help_text = key
        if (
            bound is not None
            and bound.encode() == raw[start:end]
            and raw[start - len(_BEFORE_BOUND) - 1 :][:1] != b"\\"
            and _BEFORE_BOUND not in raw[end:]
        ):
            self._bounds[raw[start:end]] = bound
            self._around[raw[LENGTH_SIZE:start] + raw[end:]] = family, sample, labels, help_text
        return key

    def keep(self, live: AbstractSet[bytes]) -> None:
        """Forget every key that is not in *live*."""
        self.meanings = {raw: self.meanings[raw] for raw in live}
        for parts in (self._names, self._labels, self._around, self._bounds):
            parts.clear()


def with_bound(labels: Labels, bound: str | None) -> Labels:
    """Return *labels* with the label `le`, unless *bound* is None."""
    return labels if bound is None else tuple(sorted((*labels, (BUCKET_LABEL, bound))))


def _without_surrogates(value: object) -> object:
    """Replace lone surrogates, which UTF-8 cannot express, by U+FFFD, anywhere in *value*.

    JSON can spell them, and Python has them in names of files, so labels have them, too. They are
    replaced before series are compared, or two series could become one on the page.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): _without_surrogates(item) for key, item in value.items()}
    return value


def clean_text(text: str) -> str:
    """Return *text* with every lone surrogate replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _excerpt(raw: bytes) -> str:
    """Return the beginning of a *raw* key for a message."""
    longest = 60
    shown = raw[LENGTH_SIZE : LENGTH_SIZE + longest]
    return repr(shown) + ("…" if len(raw) > LENGTH_SIZE + longest else "")
