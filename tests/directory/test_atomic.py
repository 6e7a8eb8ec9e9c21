"""Changes of a directory that are complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpmetrics.directory.atomic import (
    find_free_name,
    rename_if_free,
    sync_directory,
    write_new_file,
)


def names(directory: Path) -> list[str]:
    """Return the names in the *directory*."""
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
@pytest.mark.parametrize(
    ("directory", "mode"), [(0o700, 0o600), (0o755, 0o644), (0o2775, 0o664), (0o750, 0o640)]
)
def test_a_new_file_is_whole(tmp_path: Path, umask: int, directory: int, mode: int) -> None:
    """A new file has the bytes, and lets those read it who may list the directory."""
    tmp_path.chmod(directory)
    path = tmp_path / "file"
    before = os.umask(umask)
    try:
        write_new_file(str(path), b"abc" * 100_000)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"abc" * 100_000
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == mode


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    """Writing a new file where one exists raises, and leaves that file unchanged."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_new_file(str(path), b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_file_that_cannot_be_completed_is_removed(tmp_path: Path) -> None:
    """A limit on the size of files makes the write fail, and no part of the file stays."""
    import resource
    import signal

    path = tmp_path / "file"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_new_file(str(path), b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []


def test_a_file_is_renamed_to_a_free_name(tmp_path: Path) -> None:
    """A file moves to the new name with its bytes."""
    (tmp_path / "a").write_bytes(b"a")
    assert rename_if_free(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (names(tmp_path), (tmp_path / "b").read_bytes()) == (["b"], b"a")


def test_a_name_that_is_taken_is_not_replaced(tmp_path: Path) -> None:
    """Renaming to a name that is taken changes neither file."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert not rename_if_free(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"a", b"b"]


def test_a_free_name_has_the_first_free_number(tmp_path: Path) -> None:
    """The name itself is returned while it is free, then the name with a number."""
    path = tmp_path / "a"
    assert find_free_name(str(path)) == str(path)
    path.symlink_to("nowhere")  # a name is also taken by a link that leads nowhere
    assert find_free_name(str(path)) == f"{path}.1"
    (tmp_path / "a.1").touch()
    assert find_free_name(str(path)) == f"{path}.2"


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    """A name that is too long raises, and is not reported as free."""
    with pytest.raises(OSError, match="too long"):
        find_free_name(str(tmp_path / ("a" * 300)))


def test_a_directory_is_synced(tmp_path: Path) -> None:
    """Syncing a directory returns when its names are on the disk; a missing one raises."""
    sync_directory(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_directory(str(tmp_path / "missing"))
