"""The opening of files of others: nothing waits, and nothing but files is read."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from mpmetrics._opening import (
    open_regular,
    read_named_file,
    read_regular,
    write_named_file,
)
from mpmetrics.errors import NotAMetricsFileError
from tests.special_files import SPECIAL, make_special
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Return a named pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    """Opening anything but a regular file ends at once, with an error that has its name."""
    path = tmp_path / "name"
    make_special(path, kind)
    with pytest.raises(OSError, match=re.escape(str(path))):
        open_regular(str(path))
    with pytest.raises(OSError, match=re.escape(str(path))):
        read_regular(str(path), 10)


def test_no_descriptor_is_left_open(pipe: Path) -> None:
    """A file that is refused is closed again."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    for _ in range(3):
        with pytest.raises(NotAMetricsFileError):
            open_regular(str(pipe))
    again = os.open(os.devnull, os.O_RDONLY)
    os.close(again)
    assert again == free


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    """A regular file, also behind a symbolic link, is read to its end or to the limit."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"0123456789" * 20_000)
    link.symlink_to(path)
    assert read_regular(str(link), 15) == b"012345678901234"
    assert read_regular(str(path), 1 << 30) == path.read_bytes()


def write_and_close(descriptor: int, data: bytes) -> None:
    """Write *data* to a pipe and close it."""
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def test_a_pipe_that_a_user_names_is_read_to_its_end() -> None:
    """A pipe is a file that a user may name, as a shell does for `<(...)`."""
    reading, writing = os.pipe()
    data = b"text" * 50_000
    writer = threading.Thread(target=write_and_close, args=[writing, data])
    writer.start()
    try:
        assert read_named_file(f"/dev/fd/{reading}", patience=PATIENCE) == data
    finally:
        os.close(reading)
        writer.join()


def test_a_pipe_without_content_is_an_error() -> None:
    """A pipe to which nothing is written is not taken for an empty file: it lacks the passwords."""
    reading, writing = os.pipe()
    os.close(writing)
    try:
        with pytest.raises(OSError, match="nothing was written to the pipe"):
            read_named_file(f"/dev/fd/{reading}")
    finally:
        os.close(reading)


def test_a_pipe_without_a_writer_is_an_error(pipe: Path) -> None:
    """A pipe that no program writes to costs a limited time."""
    with pytest.raises(OSError, match="the pipe does not end within 0 s") as caught:
        read_named_file(str(pipe), patience=0)
    assert caught.value.filename == str(pipe)


def test_a_pipe_that_does_not_end_is_an_error(pipe: Path) -> None:
    """A pipe whose writer never closes it costs a limited time."""
    both = os.open(pipe, os.O_RDWR)
    try:
        os.write(both, b"a")
        with pytest.raises(OSError, match="the pipe does not end") as caught:
            read_named_file(str(pipe), patience=0.01)
    finally:
        os.close(both)
    assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_file_that_a_user_may_name(name: str) -> None:
    """A device is refused: it may have no end."""
    with pytest.raises(OSError, match="neither a file nor a pipe"):
        read_named_file(name)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    """A file with more bytes than the limit is refused, however sparse it is."""
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="more than 1048576 bytes"):
        read_named_file(str(path))


def test_a_socket_that_is_closed_is_an_error(tmp_path: Path) -> None:
    """The name of a socket cannot be opened."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="socket"):
            read_named_file(str(tmp_path / "socket"))


def test_a_named_file_is_replaced(tmp_path: Path) -> None:
    """What is written replaces what a file had, also behind a link; a device takes all."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"longer than before")
    link.symlink_to(path)
    write_named_file(str(link), b"new")
    assert path.read_bytes() == b"new"
    write_named_file(os.devnull, b"new")


def test_a_pipe_is_written_as_long_as_it_is_read(pipe: Path) -> None:
    """A reader gets all that is written, though a pipe holds less."""
    data = bytes(range(256)) * 4_000
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(os.read(reader, 1 << 16))

    thread = threading.Thread(target=read)
    thread.start()
    write_named_file(str(pipe), data, patience=PATIENCE)
    thread.join(PATIENCE)
    os.close(reader)
    assert got == data


def test_a_pipe_that_is_not_read_is_not_waited_for(pipe: Path) -> None:
    """Writing ends with an error that names the pipe: at once without a reader, else in time."""
    with pytest.raises(OSError, match=re.escape(str(pipe))):
        write_named_file(str(pipe), b"x")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(TimeoutError, match=re.escape(str(pipe))):
        write_named_file(str(pipe), bytes(1 << 20), patience=0.01)
    os.close(reader)
