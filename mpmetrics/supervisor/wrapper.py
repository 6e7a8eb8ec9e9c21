"""The wrapper: a server with a directory, a page and a compactor beside it."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mpmetrics.compaction import DEFAULT_INTERVAL, BackgroundCompactor, Compactor
from mpmetrics.directory import (
    OLD_VARIABLE,
    VARIABLE,
    RunDirectory,
    make_private_directory,
    prove_leases,
    sweep_run_directories,
    take_run_directory,
    unmakeable_reason,
)
from mpmetrics.errors import AccountError, CommandError, RunDirectoryError
from mpmetrics.pages import DirectorySource, RegistrySource
from mpmetrics.supervisor.account import find_account, foresee_account
from mpmetrics.supervisor.adoption import AdoptedDirectories
from mpmetrics.supervisor.keeper import DirectoryKeeper
from mpmetrics.supervisor.launch import IS_SUPPORTED, Command
from mpmetrics.supervisor.leftovers import fold_leftovers
from mpmetrics.supervisor.lookout import Lookout
from mpmetrics.supervisor.notify_relay import NotifyRelay, open_relay
from mpmetrics.supervisor.process_metrics import ProcessMetrics
from mpmetrics.supervisor.runner import Runner, start_helper
from mpmetrics.supervisor.signals import block_signals
from mpmetrics.supervisor.systemd import NOTIFY_SOCKET
from mpmetrics.system import UWSGI_ADVICE, has_own_proc, reloads_at_sigterm
from mpmetrics.web import DEFAULT_LISTEN, PageServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.compaction import Fate
    from mpmetrics.pages import Collector, Page, Source
    from mpmetrics.supervisor.account import Account
    from mpmetrics.web import WebConfig

    MakePage = Callable[[Sequence[Source]], Page]
    WriteMessage = Callable[[str], None]

_UNSUPPORTED: Final = 2

_NO_PROC: Final = (
    "/proc is that of another pid namespace, so that workers cannot be watched: "
    "mount the right one, as unshare --mount-proc does"
)

_LONGEST_RELEASE: Final = 10
"""Seconds that the removal of the directory may take."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a wrapper.

    The server writes to *directory*; "" stands for a new one, which is removed at the end unless
    *keep*. *fresh* empties the directory first. The page is served at *listen*, and protected by
    *web_config*. Files of dead workers are folded every *compact_interval* seconds and soon after
    a worker has ended; 0 is never. The server is killed *grace* seconds after it was asked to end;
    None is never. *per_worker* shows the metrics of each process instead of their sums. With
    *adopt*, other directories that the server writes to are on the page, and compacted, too. The
    command runs as *user* and *group*, names or numbers; "" stands for those of this process.
    """

    directory: str = ""
    fresh: bool = False
    keep: bool = False
    listen: str = DEFAULT_LISTEN
    web_config: WebConfig | None = None
    compact_interval: float = DEFAULT_INTERVAL
    keep_dead_gauges: bool = False
    dead_gauges: Mapping[str, Fate] = field(default_factory=dict)
    grace: float | None = None
    per_worker: bool = False
    adopt: bool = False
    user: str = ""
    group: str = ""


def run_command(
    command: Sequence[str],
    make_page: MakePage,
    options: RunOptions,
    write_message: WriteMessage,
) -> int:
    """Run *command* until it ends; return its status as `subprocess` does.

    *make_page* makes a page of sources; *write_message* gets lines for the user. Raises
    `CommandError`, `AccountError`, `RunDirectoryError`, `ListenError` or what *make_page* raises;
    then nothing has been started.
    """
    if not IS_SUPPORTED:
        raise CommandError(command[0], "wrapping a server needs Linux", _UNSUPPORTED)
    # From the first thing that has to be removed at the end, signals are the server's.
    with block_signals() as mask, ExitStack() as stack:
        account = _find_account(options)
        directory = _take_directory(options)
        stack.callback(_release_directory, directory, options, write_message)
        keeper = _hand_over(directory, account, command)
        # This starts a process, which has to end before any child is waited for.
        prove_leases(directory.path)
        compactor = _make_compactor(directory.path, options)
        background = BackgroundCompactor(compactor, options.compact_interval)
        relay = open_relay(os.environ.get(NOTIFY_SOCKET, ""))
        adopted = AdoptedDirectories(lambda path: background.add(_make_compactor(path, options)))
        lookout = Lookout(directory.path, adopt=adopted.adopt if options.adopt else None)
        runner = Runner(
            Command(command, _make_environment(directory.path, relay, account), account),
            compact=background.request,
            note_bus_error=lookout.note_bus_error,
            inspect=keeper.look,
            grace=options.grace,
        )
        if relay is not None:
            stack.callback(relay.stop)
        own = _JoinedCollectors(
            [ProcessMetrics(per_worker=options.per_worker), background, runner, lookout]
        )
        page = make_page(
            [
                DirectorySource(directory.path, liveness=True),
                *([adopted] if options.adopt else []),
                RegistrySource(own, name="run"),
            ]
        )
        server = PageServer(page, options.listen, web_config=options.web_config)
        stack.callback(server.stop)
        if not directory.is_private:
            fold_leftovers(compactor.compact, write_message)
        runner.start(mask)
        if relay is not None:
            start_helper("the relay of reports to systemd", relay.start)
        if reloads_at_sigterm(command, os.environ):
            write_message(f"uWSGI reloads at SIGTERM instead of ending: {UWSGI_ADVICE}")
        if not has_own_proc():
            write_message(_NO_PROC)
        write_message(f"listening on {server.page_address}")
        start_helper("the page", server.start)
        if options.compact_interval:
            start_helper("the compaction", background.start)
            stack.callback(background.stop, compact=options.keep or not directory.is_private)
        start_helper("the lookout", lookout.start)
        stack.callback(lookout.stop)
        return runner.run()


class _JoinedCollectors:
    """Several collectors as one."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            yield from collector.collect()


def _make_compactor(path: str, options: RunOptions) -> Compactor:
    """Return a compactor of the directory *path*. Raises `DirectoryError`."""
    return Compactor(path, options.keep_dead_gauges, dead_gauges=options.dead_gauges)


def _take_directory(options: RunOptions) -> RunDirectory:
    """Return the directory of the run: the given one, or a new one."""
    # A directory that has been taken is not swept: it may be what an earlier run has left.
    if options.directory:
        why = unmakeable_reason(options.directory)
        if why:
            raise RunDirectoryError(options.directory, why)
        directory = take_run_directory(options.directory, fresh=options.fresh)
    else:
        directory = make_private_directory(keep=options.keep)
    sweep_run_directories()
    return directory


def _find_account(options: RunOptions) -> Account | None:
    """Return the account that the command shall run as, None for that of this process.

    Raises `AccountError`.
    """
    if not (options.user or options.group):
        return None
    if os.geteuid() != 0:
        raise AccountError(options.user or options.group, "only root can start it as another user")
    return find_account(options.user, options.group)


def _hand_over(
    directory: RunDirectory, account: Account | None, command: Sequence[str]
) -> DirectoryKeeper:
    """Give the *directory* to the user whose processes will write to it; return its keeper.

    That is *account*, under which the *command* runs, or the one that it starts its workers as. If
    there is none, the keeper looks who it is.
    """
    writer = account or foresee_account(command, os.environ)
    if writer is None or os.geteuid() != 0 or writer.uid == 0:
        return DirectoryKeeper(directory)
    try:
        directory.hand_over(writer.uid, writer.gid, whole=account is not None)
    except OSError as error:
        raise RunDirectoryError(directory.path, error.strerror or str(error)) from error
    return DirectoryKeeper(directory, writer)


def _release_directory(
    directory: RunDirectory, options: RunOptions, write_message: WriteMessage
) -> None:
    """Remove the directory; if it stays, and the user did not choose it, write where it is."""
    why = f"because looking into it takes more than {_LONGEST_RELEASE} s"
    done = threading.Event()

    def release() -> None:
        nonlocal why
        try:
            why = directory.release(keep=options.keep)
        except OSError as error:
            why = f"because removing it failed ({error.strerror})"
        done.set()

    # In a thread: a directory on a file server may not answer.
    try:
        threading.Thread(target=release, name="mpmetrics-release", daemon=True).start()
    except RuntimeError:  # no thread can be started any more
        release()
    done.wait(_LONGEST_RELEASE)
    if why and directory.is_private:
        write_message(f"the directory stays, {why}: {directory.path}")


def _make_environment(
    path: str, relay: NotifyRelay | None, account: Account | None
) -> Mapping[str, str]:
    """Return the server's environment: this process's, with *path* to write metrics to.

    If there is a *relay*, reports to systemd go there. With an *account*, it is that user's.
    """
    environment = {name: value for name, value in os.environ.items() if name != OLD_VARIABLE}
    if relay is not None:
        environment[NOTIFY_SOCKET] = relay.address
    if account is not None:
        environment.update(account.variables)
    return {**environment, VARIABLE: path}
