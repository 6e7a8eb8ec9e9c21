"""What a wrapper says of the places where its server writes."""

from __future__ import annotations

import pytest

from mpmetrics.directory.writers import Writer
from mpmetrics.supervisor.writer_watch import Look, WriterWatch

HERE, NOTHING, UNKNOWN = Writer(7, "directory"), Writer(8, "nothing"), Writer(9, "unknown")
REMOVED, OTHER = Writer(5, "removed"), Writer(6, "elsewhere", "/other")


def looks(*writers: Writer, seconds: int = 120, has_metrics: bool = False) -> list[Look]:
    """Return looks at the same *writers*, a second apart."""
    return [Look(float(now), writers, has_metrics=has_metrics) for now in range(seconds)]


def lines_of(looks: list[Look], *, adopts: bool = False) -> list[str]:
    """Return all lines that *looks* cause."""
    watch = WriterWatch("/m", adopts=adopts)
    return [line for look in looks for line in watch.note(look)]


def test_another_directory_is_one_line() -> None:
    """A directory other than the expected one is one line, however many processes write to it."""
    more = Writer(10, "elsewhere", "/other")
    expected = (
        "process 6 of the server writes its metrics to /other, not to /m: the application or a "
        "library of it sets PROMETHEUS_MULTIPROC_DIR; they are missing from this page; --adopt "
        "takes that directory over"
    )
    assert lines_of(looks(HERE, OTHER, more, NOTHING)) == [expected]
    (line,) = lines_of(looks(OTHER), adopts=True)
    assert line.endswith("; that directory is taken over, and on this page")


def test_a_process_that_reads_another_directory_is_not_reported() -> None:
    """What is seen in a single look only is not reported, but counted."""
    watch = WriterWatch("/m")
    for look in [Look(0.0, [HERE]), Look(1.0, [HERE, OTHER]), Look(2.0, [HERE])]:
        assert watch.note(look) == []
    assert watch.elsewhere == []
    watch.note(Look(3.0, [OTHER, HERE]))
    assert watch.counts == {
        "directory": 1,
        "elsewhere": 1,
        "removed": 0,
        "nothing": 0,
        "unknown": 0,
    }


def test_there_is_a_limit_to_the_directories() -> None:
    """A server that makes directory after directory does not fill the log."""
    writers = [Writer(pid, "elsewhere", f"/other/{pid}") for pid in range(100, 200)]
    assert len(lines_of(looks(*writers))) == 10


def test_removed_files_are_one_line() -> None:
    """Processes that write to removed files are one line."""
    (line,) = lines_of(looks(REMOVED, HERE))
    assert line.startswith("1 process of the server, such as 5, still writing to files that were")


def test_a_server_that_writes_nothing_is_one_line() -> None:
    """A server that has not written anything for a minute is one line, at that moment."""
    seen = looks(NOTHING)
    assert lines_of(seen[:60]) == []
    (line,) = lines_of(seen[:61])
    assert line.startswith(
        "the server runs (1 process), but has not written any metric to /m for 60 s: prometheus_"
    )
    assert lines_of(seen) == [line]


def test_a_missing_variable_is_the_reason() -> None:
    """Where a process was started without the variable, the line says so."""
    (line,) = lines_of([look._replace(without_variable=[8]) for look in looks(NOTHING)])
    assert "process 8 was started without PROMETHEUS_MULTIPROC_DIR, which sudo and env" in line


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(looks(NOTHING, HERE), id="one-writes"),
        pytest.param(looks(NOTHING, UNKNOWN), id="one-is-hidden"),
        pytest.param(looks(NOTHING, has_metrics=True), id="written-before"),
        pytest.param(looks(NOTHING, seconds=59) + looks(HERE)[59:], id="in-time"),
        pytest.param([look._replace(has_workers=False) for look in looks()], id="no-processes"),
    ],
)
def test_no_alarm_is_false(seen: list[Look]) -> None:
    """Nothing is said where a process writes, may write, or is about to."""
    assert lines_of(seen) == []
