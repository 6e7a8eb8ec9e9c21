"""Ten thousand recycled workers: the files that they leave, and the time of a scrape.

Run it by ``make recycling``. Both sides of the ratio are measured in the same run, in turn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from mpmetrics.compaction.compactor import Compactor
from mpmetrics.format import codec
from mpmetrics.scrape.view import DirectoryView
from tests.benchmarks.directories import Case, write_directory

LIVE: Final = 8
ENTRIES: Final = 200


def main() -> None:
    """Recycle workers with regular compactions, and compare a scrape with one of live workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m tests.benchmarks.recycling"
    )
    parser.add_argument("--workers", type=int, default=10_000, help="how many begin and end")
    parser.add_argument("--every", type=int, default=100, help="how many end between compactions")
    parser.add_argument("--runs", type=int, default=25, help="scrapes of each side")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpmetrics-bench-") as name:
        alone, recycled = Path(name, "alone"), Path(name, "recycled")
        for path in (alone, recycled):
            path.mkdir()
        write_directory(alone, Case("live", LIVE, ENTRIES, 0, 0))
        recycle(recycled, alone, arguments.workers, arguments.every)
        opened = [shutil.copy(file, recycled) for file in alone.iterdir()]
        compare(alone, recycled, arguments.runs)
        print(f"{len(opened)} files of live workers, {len(list(recycled.glob('*.db')))} in all")


def recycle(path: Path, model: Path, workers: int, every: int) -> None:
    """Start and end *workers* like the first of *model* in *path*, one after the other."""
    compactor = Compactor(path)
    pid = min(file.stem.rpartition("_")[2] for file in model.iterdir())
    # Without the preallocated part, which would dominate the time.
    files = {
        file.stem.rpartition("_")[0]: _used(file.read_bytes()) for file in model.glob(f"*_{pid}.db")
    }
    spent = []
    for worker in range(workers):
        for prefix, data in files.items():
            (path / f"{prefix}_{10_000_000 + worker}.db").write_bytes(data)
        if worker % every == every - 1 or worker == workers - 1:
            start = time.perf_counter()
            compactor.compact()
            spent.append(time.perf_counter() - start)
    print(
        f"{workers} workers of {len(files)} files: {len(spent)} compactions, "
        f"median {statistics.median(spent) * 1e3:.0f} ms"
    )


def _used(data: bytes) -> bytes:
    """Return the used bytes of a file."""
    return data[: codec.read_used(data)]


def compare(alone: Path, recycled: Path, runs: int) -> None:
    """Print the times of scrapes of both directories."""
    views = [DirectoryView(str(path)) for path in (alone, recycled)]
    times: list[list[float]] = [[], []]
    for _ in range(runs + 1):
        for view, own in zip(views, times, strict=True):
            start = time.perf_counter()
            view.collect().render()
            own.append(time.perf_counter() - start)
    ratios = [after / before for before, after in list(zip(*times, strict=True))[1:]]
    before, after = (statistics.median(own[1:]) * 1e3 for own in times)
    print(
        f"a scrape of {LIVE} live workers: {before:.2f} ms alone, {after:.2f} ms beside the "
        f"archives of dead workers: {statistics.median(ratios):.2f} x"
    )


if __name__ == "__main__":
    main()
