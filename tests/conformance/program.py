"""A worker that uses everything prometheus_client writes in multiprocess mode.

Run as ``program.py NUMBER``; it knows only what the oldest supported version knows. Workers with
different numbers write different values, all of them sums of a few powers of two, so that adding
them up gives the same number in whatever order.
"""

from __future__ import annotations

import math
import sys
from typing import Final, Literal

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary

Mode = Literal[
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
]

MODES: Final[tuple[Mode, ...]] = (
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
)

TEXTS: Final = (
    "plain",
    "",
    " blank ",
    'quo"ted"',
    "back\\slash",
    "trailing\\",
    "new\nline",
    "carriage\rreturn",
    "tab\tand\x00nul\x7f",
    "\\n is no newline",
    '"le": "1.0"',
    "brace}and,comma",
    "umlaut äöü",
    "日本語",
    "🎉",
    "e\u0301 is not é",
    "line\u2028separator\x85",
    "\ufeffmark",
)

# Each is a maximum over all workers, so that numbers arrive as they were set.
NUMBERS: Final = {
    "zero": 0.0,
    "third": 1 / 3,
    "tenth": 0.1,
    "tiny": 5e-324,
    "small": 1e-7,
    "small_exponent": 1.5e-5,
    "six_digits": 999999.0,
    "seven_digits": 1000000.0,
    "fraction": 1234567.875,
    "big_fraction": 123456789012.5,
    "sixteen_digits": 1234567890123456.0,
    "repr_exponent": 1e16,
    "seventeen_digits": 12345678901234567.0,
    "large": 1e21,
    "largest": sys.float_info.max,
    "infinite": math.inf,
    "negative": -123456789.5,
    "negative_infinite": -math.inf,
}


def counters(number: int) -> None:
    """Write counters with and without labels, with and without `_total`."""
    Counter("plain", "A counter.").inc(number + 0.5)
    Counter("suffixed_total", "With its suffix.").inc(number)
    Counter("untouched", "Never incremented.")
    Counter("namespaced", "", namespace="some", subsystem="sub").inc()
    Counter("with:colons", "A recording rule?").inc(3)
    Counter("bytes", "With a unit.", unit="bytes").inc(2048)
    texts = Counter("texts", 'Help \\ with\nescapes, "quotes" and ä 🎉.', ["text", "other"])
    for text in TEXTS:
        texts.labels(text, text).inc(number)
        texts.labels(other="", text=text).inc()
    for worker in range(number + 1):
        Counter(f"only_from_{worker}", "Not every worker has it.").inc()
    ordered = Counter("ordered", "Labels in no order.", ["z", "a", "m", "A", "_"])
    ordered.labels("1", "2", "3", "4", "5").inc()


def gauges(number: int) -> None:
    """Write gauges of all modes, and numbers of all forms."""
    for mode in MODES:
        Gauge(f"gauge_{mode}", f"Mode {mode}.", multiprocess_mode=mode).set(number * 0.25 - 0.5)
        labelled = Gauge(f"labelled_{mode}", "", ["of"], multiprocess_mode=mode)
        labelled.labels("all workers").set(10 - number)
        labelled.labels(f"worker {number}").set(-number)
        if "mostrecent" not in mode:
            labelled.labels("never set")
            Gauge(f"moved_{mode}", "", multiprocess_mode=mode).inc(number)
        infinite = Gauge(f"infinite_{mode}", "", multiprocess_mode=mode)
        infinite.set(math.inf if number % 2 else 0)
    Gauge("default_mode", "Without a mode.").set(number)
    for name, value in NUMBERS.items():
        Gauge(f"number_{name}", "", multiprocess_mode="max").set(value)


def distributions(number: int) -> None:
    """Write summaries and histograms."""
    summary = Summary("summary_seconds", "A summary.", ["path"])
    default = Histogram("default_buckets_seconds", "As they come.", ["path"])
    own = Histogram("own_buckets", "", buckets=(1e-9, 0.1, 1, 2.5, 1e6, 123456789.0, 1e17))
    signed = Histogram("signed_values", "May go below zero.", buckets=(0, 1, 2))
    for observation in (0, 0.25, 1, 2.5, 7, 64, 1e6, 2.0**40):
        for path in ("/", f"/{number}"):
            summary.labels(path).observe(observation * number)
            default.labels(path).observe(observation + number)
        own.observe(observation)
        signed.observe(1 - observation)
    Summary("untouched_summary", "")
    Histogram("untouched_histogram", "")
    Histogram("childless_histogram", "Labels but no child.", ["path"])
    Histogram("one_bound", "", buckets=(0.5,)).observe(number)


def invisible() -> None:
    """Make metrics that multiprocess mode does not write."""
    Info("build", "Never written.").info({"version": "1"})
    Enum("state", "Never written.", states=["on", "off"]).state("on")


if __name__ == "__main__":
    worker_number = int(sys.argv[1])
    counters(worker_number)
    gauges(worker_number)
    distributions(worker_number)
    invisible()
