"""The result of a compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpmetrics.compaction.batch import FoldBatch
    from mpmetrics.directory import WorkerFile
    from mpmetrics.errors import Problem

Outcome = Literal["folded", "nothing", "busy", "preview"]


class Skipped(NamedTuple):
    """A file that was left alone: its *path*, a *reason* of one word, and a sentence (*detail*)."""

    path: str
    reason: str
    detail: str


class Compaction(NamedTuple):
    """What a compaction of the directory *path* did.

    *outcome* is "folded" if the compaction changed something, "nothing" if there was nothing to
    change, "busy" if another process was compacting the directory, and "preview" if it was a dry
    run. *generation* is that of the archives that count now. *folded* are the paths of the files
    whose values are in an archive now, *dropped* those of the files whose values ended with their
    worker. *skipped* has every other file and why it stays, *quarantined* every file that could
    not be read and what is wrong with it. *problems* are those that the merging found.
    """

    path: str
    outcome: Outcome
    generation: int = 0
    folded: Sequence[str] = ()
    dropped: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    quarantined: Sequence[Problem] = ()
    problems: Sequence[Problem] = ()


class CompactionReport:
    """What one compaction has done so far."""

    def __init__(self) -> None:
        """Start with an empty report."""
        self._folded: list[str] = []
        self._dropped: list[str] = []
        self._skipped: list[Skipped] = []
        self._quarantined: list[Problem] = []
        self._problems: dict[Problem, None] = {}

    def add_batch(self, batch: FoldBatch) -> None:
        """Report the files of a *batch* as folded or dropped."""
        for file in batch.files:
            (self._folded if file.path in batch.digests else self._dropped).append(file.path)

    def add_problem(self, problem: Problem) -> None:
        """Report a *problem* of the merging, once."""
        self._problems[problem] = None

    def add_quarantined(self, problem: Problem) -> None:
        """Report that the damaged file that is the *problem* is set aside."""
        self._quarantined.append(problem)

    def skip(self, path: str, reason: str, detail: str) -> None:
        """Report that the file *path* is left alone."""
        self._skipped.append(Skipped(path, reason, detail))

    def skip_all(self, files: Iterable[WorkerFile], reason: str, detail: str) -> None:
        """Report that all *files* are left alone, for the same reason."""
        for file in files:
            self.skip(file.path, reason, detail)

    def forget_skipped(self) -> None:
        """Forget which files are left alone: the compaction starts again, and looks again."""
        self._skipped.clear()

    def finish(self, path: str, generation: int) -> Compaction:
        """Return the result of the compaction of the directory *path*."""
        has_changed = self._folded or self._dropped or self._quarantined
        return Compaction(
            path,
            "folded" if has_changed else "nothing",
            generation,
            self._folded,
            self._dropped,
            self._skipped,
            self._quarantined,
            list(self._problems),
        )
