"""What earlier runs have left in a directory."""

from __future__ import annotations

from mpmetrics.compaction import Compaction
from mpmetrics.compaction.result import Skipped
from mpmetrics.errors import CompactionError
from mpmetrics.supervisor.leftovers import fold_leftovers

UNKNOWN = [Skipped(f"/d/counter_{pid}.db", "unknown", "the owner is away") for pid in (7, 8)]
ALIVE = [Skipped("/d/counter_9.db", "alive", "its worker has it open")]
PID = "a worker with the same pid goes on with their values"


def fold(*answers: Compaction) -> list[str]:
    """Fold with a compactor that gives *answers*, the last one for ever; return what is said."""
    lines: list[str] = []
    left = [*answers]
    fold_leftovers(lambda: left.pop(0) if left[1:] else left[0], lines.append, patience=0.2)
    return lines


def test_what_is_folded_is_not_worth_a_line() -> None:
    """Nothing is written when all is folded, or still in use."""
    assert fold(Compaction("/d", "folded", skipped=ALIVE)) == []
    assert fold(Compaction("/d", "nothing", skipped=ALIVE)) == []


def test_what_cannot_be_folded_is_one_line() -> None:
    """One line has the number of files that nothing is known of, and what follows from that."""
    (line,) = fold(Compaction("/d", "nothing", skipped=[*ALIVE, *UNKNOWN]))
    assert line == (
        f"/d: 2 files of earlier workers cannot be folded, because the owner is away; {PID}"
    )


def test_another_compactor_is_waited_for() -> None:
    """While another process compacts the directory, the start waits, but not for ever."""
    busy = Compaction("/d", "busy")
    assert fold(busy, busy, Compaction("/d", "nothing")) == []
    assert fold(busy) == ["/d: another process has been compacting it for 0.2 s"]


def test_a_failure_is_one_line() -> None:
    """A directory that cannot be compacted does not keep the server from starting."""
    lines: list[str] = []
    error = CompactionError("/d", "it is full")

    def fail() -> Compaction:
        raise error

    fold_leftovers(fail, lines.append)
    assert lines == [f"/d: not compacted: it is full; {PID}"]
