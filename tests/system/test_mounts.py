"""The file system that a path lies on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mpmetrics.system.mounts import (
    Mount,
    Space,
    find_mount,
    measure_space,
    parse_mountinfo,
    resolve_mount,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# As after a start with an initial RAM disk: /run was mounted before what became the root.
MOUNTINFO = """\
26 28 0:24 / /run rw,nosuid,nodev shared:12 - tmpfs tmpfs rw,size=1608524k,mode=755
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
40 28 0:40 / /srv/my\\040metrics\\134\\012\xa0x rw - nfs4 server:/export\\040x rw,vers=4.2
41 26 0:41 / /run/lock rw shared:2 master:3 propagate_from:2 - tmpfs tmpfs rw
"""


def test_mountinfo_is_read() -> None:
    """A line may have any number of optional fields, and octal escapes for blanks and the like."""
    assert parse_mountinfo(MOUNTINFO) == [
        Mount("26", "28", "/run", "tmpfs"),
        Mount("28", "1", "/", "ext4"),
        Mount("40", "28", "/srv/my metrics\\\n\xa0x", "nfs4"),
        Mount("41", "26", "/run/lock", "tmpfs"),
    ]


ROOT = Mount("28", "1", "/", "ext4")


@pytest.mark.parametrize(
    ("mounted", "path", "kind"),
    [
        pytest.param([ROOT], "/", "ext4", id="root"),
        pytest.param([ROOT], "/a/b", "ext4", id="below-the-root"),
        pytest.param([ROOT, Mount("2", "28", "/a", "nfs")], "/a", "nfs", id="the-point-itself"),
        pytest.param([ROOT, Mount("2", "28", "/a", "nfs")], "/a/b", "nfs", id="below-a-point"),
        pytest.param([ROOT, Mount("2", "28", "/a", "nfs")], "/ab", "ext4", id="same-beginning"),
        pytest.param(
            [ROOT, Mount("2", "28", "/a", "nfs"), Mount("3", "2", "/a/b", "tmpfs")],
            "/a/b/c",
            "tmpfs",
            id="nested",
        ),
        pytest.param(
            [ROOT, Mount("2", "28", "/a", "nfs"), Mount("3", "2", "/a", "tmpfs")],
            "/a/b",
            "tmpfs",
            id="stacked",
        ),
        pytest.param(
            [Mount("3", "2", "/a", "tmpfs"), Mount("2", "28", "/a", "nfs"), ROOT],
            "/a/b",
            "tmpfs",
            id="stacked-in-another-order",
        ),
        pytest.param(
            [ROOT, Mount("2", "28", "/a/b", "nfs"), Mount("3", "28", "/a", "tmpfs")],
            "/a/b",
            "tmpfs",
            id="hidden-by-a-later-one-above",
        ),
        pytest.param(
            [Mount("1", "1", "/", "rootfs"), Mount("28", "1", "/", "ext4")],
            "/a",
            "ext4",
            id="root-that-is-its-own-parent",
        ),
        pytest.param([Mount("2", "28", "/proc", "proc")], "/proc/1", "proc", id="chroot"),
        pytest.param([Mount("2", "28", "/proc", "proc")], "/a", None, id="chroot-unknown"),
        pytest.param([], "/a", None, id="nothing-listed"),
    ],
)
def test_the_way_down_the_tree_finds_the_mount(
    mounted: Sequence[Mount], path: str, kind: str | None
) -> None:
    """A path lies on the mount at which the kernel arrives, in whatever order mounts are listed."""
    found = resolve_mount(mounted, path)
    assert (found.kind if found else None) == kind


def test_a_path_lies_where_its_links_lead(tmp_path: Path) -> None:
    """A mount is found for the target of a symbolic link; without a list of mounts it is None."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = os.path.realpath(tmp_path / "real")
    listed = tmp_path / "mountinfo"
    listed.write_text(f"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / {real} rw - tmpfs b rw\n")
    assert find_mount(str(tmp_path / "link"), str(listed)) == Mount("2", "1", real, "tmpfs")
    assert find_mount(str(tmp_path), str(listed)) == Mount("1", "0", "/", "ext4")
    listed.unlink()
    assert find_mount(str(tmp_path), str(listed)) is None


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
def test_this_machine_has_mounts() -> None:
    """The list that the kernel writes has the mount of /proc."""
    mount = find_mount("/proc/self")
    assert mount is not None
    assert (mount.point, mount.kind) == ("/proc", "proc")


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="needs statvfs")
def test_space_is_counted_in_bytes(tmp_path: Path) -> None:
    """Space is blocks times their size, and blocks that are reserved for root are not free."""
    assert measure_space(str(tmp_path / "missing")) is None
    space = measure_space(str(tmp_path))
    assert space is not None
    assert 0 <= space.free <= space.size
    status = [512, 4096, 100, 60, 50, 30, 20, 10, 0, 0]
    measured = measure_space(str(tmp_path), lambda _: os.statvfs_result(status))
    assert measured == Space(100 * 4096, 50 * 4096, 30, 10)


def test_space_may_be_unknown(tmp_path: Path) -> None:
    """Space is None for a file system without blocks, and on a system without statvfs."""
    assert measure_space(str(tmp_path), lambda _: os.statvfs_result([0] * 10)) is None
    assert measure_space(str(tmp_path), None) is None
