"""A study's nursery: a process that holds what its trials share, and whose forks are their ranks.

It is a fork of the warm server itself and must stay fork-safe: no CUDA, no threads, no parallel
region. The driver asks it for ranks over one connection; when that closes, it ends with its last rank.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil

from sweep.paths import StudyPaths
from sweep.ranks import RankSpec, redirect_output

if TYPE_CHECKING:
    from sweep.study_parts import StudyParts

_PID, _CODE = "pid", "code"
_GROWTH = 1_000_000_000  # bytes beyond what it had after loading; then a fresh one takes its place
_HOUSEKEEPING = 8  # forks; after each one, every page this process touches has to be copied


class RankProcess:
    """A rank as the driver sees it.

    `status` brings its pid and its exit code, in this order, both from itself; if it was killed, the code
    comes from the nursery; it closes without one where both were killed. A rank outlives its nursery.
    """

    def __init__(self, status: Connection) -> None:
        self.status = status
        self.pid: int | None = None
        self._code: int | None = None

    @property
    def exitcode(self) -> int | None:
        """None while it runs; negative: killed by that signal."""
        while self._code is None and self.status.poll():
            self._read()
        return self._code

    def _read(self) -> None:
        try:
            what, value = self.status.recv()
        except (EOFError, OSError):
            what, value = _CODE, -signal.SIGKILL
        if what == _PID:
            self.pid = value
        else:
            self._code = value

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.exitcode is None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def join(self, timeout: float) -> None:
        """Wait until it has ended, at most `timeout` seconds."""
        while self.exitcode is None and wait([self.status], timeout):
            pass

    def close(self) -> None:
        """Forget it."""
        self.status.close()


def request_rank(
    control: Connection, rank: str, spec: RankSpec, line: Connection, status: Connection
) -> None:
    """Ask the nursery at the other end of `control` to run the function `rank` ("module:name").

    `line` and `status` become the nursery's; the caller closes its own copies.

    Raises:
        OSError: the nursery is gone.
    """
    control.send((rank, spec))
    for connection in (line, status):
        send_handle(control, connection.fileno(), None)


def serve(study_dir: str, control: Connection) -> None:
    """The main function of the nursery's process."""
    import torch  # only here: the driver uses this module, too

    from sweep.study_parts import StudyParts

    paths = StudyPaths(Path(study_dir))
    redirect_output(paths.nursery_log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parts = StudyParts(paths)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with _faults_left_to_ranks():
        parts.load()
    torch.set_num_threads(threads)
    gc.collect()
    gc.freeze()
    _Server(control, parts).run()


@contextlib.contextmanager
def _faults_left_to_ranks() -> Iterator[None]:
    """A rank meets the same fault again, and knows how to tell the driver."""
    try:
        yield
    except Exception:
        traceback.print_exc()


class _Server:
    def __init__(self, control: Connection, parts: StudyParts) -> None:
        self._control, self._parts = control, parts
        self._ranks: dict[int, Connection] = {}
        self._open = True
        self._forks = 0
        self._limit = psutil.Process().memory_info().rss + _GROWTH
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        while self._open or self._ranks:
            ready = wait([self._woken, *([self._control] if self._open else [])])
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if self._control in ready:
                self._answer()

    def _reap(self) -> None:
        while self._ranks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            told = self._ranks.pop(pid)
            with contextlib.suppress(OSError):
                told.send((_CODE, os.waitstatus_to_exitcode(status)))
            told.close()

    def _answer(self) -> None:
        """Fork one rank."""
        try:
            rank, spec = self._control.recv()
            line, status = (Connection(recv_handle(self._control)) for _ in range(2))
        except (EOFError, OSError, RuntimeError):  # the last: the driver died between two messages
            self._open = False
            return
        pid = os.fork()
        if pid == 0:
            self._become(rank, spec, line, status)
        line.close()
        self._ranks[pid] = status
        self._forks += 1
        if self._forks % _HOUSEKEEPING == 0:
            self._keep_house()

    def _keep_house(self) -> None:
        """Read what the next ranks need not; end if memory has grown. Nobody waits for this one."""
        with _faults_left_to_ranks():
            self._parts.read_ahead()
        if psutil.Process().memory_info().rss > self._limit:
            self._open = False
            self._control.close()

    def _become(self, rank: str, spec: RankSpec, line: Connection, status: Connection) -> NoReturn:
        """In the fork: nothing of the nursery's own, then the rank to its end."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._woken, self._waker):
            os.close(end)
        for connection in (self._control, *self._ranks.values()):
            connection.close()
        with contextlib.suppress(OSError):  # the driver is gone
            status.send((_PID, os.getpid()))
        code = 1
        try:
            module, _, name = rank.partition(":")
            code = getattr(importlib.import_module(module), name)(spec, line, self._parts)
        except BaseException:
            traceback.print_exc()
        finally:
            # Not through the interpreter's own end: that takes a third of a second.
            with contextlib.suppress(OSError):  # the disk may be full, the driver gone
                sys.stdout.flush()
                sys.stderr.flush()
                status.send((_CODE, code))
            os._exit(code)
