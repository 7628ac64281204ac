"""Ranks on this machine, forked from one warm server that has imported torch and transformers."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from sweep.devices import Device, planned_ranks, usable_cores
from sweep.errors import InputError, SweepError, reason_of
from sweep.events import PAUSE, Event
from sweep.launchers.nursery import RankProcess, request_rank
from sweep.ranks import RankSpec, redirect_output
from sweep.schema import LauncherConfig

_PRELOAD = ("sweep.preload",)
_RANK = "sweep.attempt:run_rank"
_NURSERY = "sweep.launchers.nursery:serve"
_STARTS = 3  # a fork server that was killed is replaced by the next start, unless it dies in between
_LONGEST_TMPDIR = 68  # of the 104 bytes of a socket's path (macOS), 36 are multiprocessing's own names
_ADVICE = "look for out-of-memory messages in the system's log, then resume the study."
_EXIT_PATIENCE = 10  # seconds a rank has for its last breath after it was killed


class LocalGroup:
    """The ranks of one attempt on this machine."""

    def __init__(
        self,
        processes: list[RankProcess],
        lines: list[Connection],
        devices: tuple[Device, ...],
        folder: str,
        nursery: ForkServerProcess,
    ) -> None:
        self.devices = devices
        self._processes, self._lines, self._folder = processes, lines, folder
        self._nursery = nursery
        self._open = set(range(len(lines)))

    def waitables(self) -> list[Any]:
        """The open lines, and the processes that still run."""
        lines = [self._lines[i] for i in sorted(self._open)]
        return lines + [p.status for p in self._processes if p.exitcode is None]

    def events(self) -> list[Event]:
        """What has arrived; a line that was closed is not read again."""
        found: list[Event] = []
        for i in sorted(self._open):
            try:
                while self._lines[i].poll():
                    found.append(self._lines[i].recv())
            except (EOFError, OSError):
                self._open.discard(i)
        return found

    def exit_codes(self) -> list[int | None]:
        """Exit codes by rank."""
        return [process.exitcode for process in self._processes]

    def pause(self) -> None:
        """Ask rank 0; its verdict reaches the others."""
        with contextlib.suppress(OSError):
            self._lines[0].send(PAUSE)

    def kill(self) -> None:
        """SIGKILL all ranks that still run, by their own ids."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(_EXIT_PATIENCE)
        if None in self.exit_codes():
            self._nursery.kill()  # it hangs: it started no rank, or does not tell of its end

    def close(self) -> None:
        """Close lines and processes, remove the meeting place."""
        for process in self._processes:
            process.join(_EXIT_PATIENCE)
            process.close()
        for line in self._lines:
            line.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class LocalLauncher:
    """Forks ranks from a study's nursery, itself a fork of Python's own forkserver.

    The server must stay fork-safe: it only imports; no CUDA, no threads, no parallel region. It and
    the nursery are replaced when they die, the nursery also when it has grown.
    """

    def __init__(self, config: LauncherConfig) -> None:
        """Start nothing yet.

        Raises:
            InputError: the temporary folder's path leaves no room for the name of a socket in it.
        """
        temporary = tempfile.gettempdir()
        if len(os.fsencode(temporary)) > _LONGEST_TMPDIR:
            raise InputError(
                f"The temporary folder {temporary} has too long a path for the sockets in it: "
                f"set TMPDIR to one of at most {_LONGEST_TMPDIR} characters, for instance TMPDIR=/tmp."
            )
        self._backend = config.backend
        # OpenMP reads this once, in the server; later changes do not reach its forks. Without it
        # every rank starts a thread per core and two ranks spend their time waiting for each other.
        threads = max(1, len(usable_cores()) // planned_ranks(config))
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOAD))
        self._nursery: tuple[ForkServerProcess, Connection] | None = None

    def call(self, function: str, *arguments: Any) -> Any:
        """Run one function, named "module:function", in a fork of the warm server.

        Raises:
            SweepError: what the function raised, or that its process died.
        """
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            log = Path(folder) / "log"
            ours, theirs = self._context.Pipe()
            process = self._fork(_answer, theirs, log, function, arguments)
            theirs.close()
            try:
                answer = ours.recv()
            except (EOFError, OSError):
                process.join()
                said = log.read_text() if log.exists() else ""
                raise SweepError(
                    f"The process that ran {function} died (exit code {process.exitcode}). "
                    f"Its last words:\n{said[-2000:]}"
                ) from None
            process.join()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _fork(self, target: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
        """A process of the warm server, which is replaced if somebody killed it."""
        for attempt in range(1, _STARTS + 1):
            process = self._context.Process(target=target, args=arguments, daemon=True)
            try:
                process.start()
                return process
            except (OSError, EOFError) as error:
                if attempt == _STARTS:
                    reason = reason_of(error) or "the fork server died"
                    raise SweepError(f"No process can be started ({reason}): {_ADVICE}") from None
        raise AssertionError

    def start(self, study_dir: Path, attempt: str, devices: tuple[Device, ...]) -> LocalGroup:
        """Start one rank per device; they meet through a file in a private folder."""
        folder = tempfile.mkdtemp(prefix="sweep-")
        backend = self._backend
        if backend == "auto":
            backend = "nccl" if devices[0].kind == "cuda" else "gloo"
        processes, lines = [], []
        for rank in range(len(devices)):
            spec = RankSpec(
                study_dir=str(study_dir),
                attempt=attempt,
                rank=rank,
                world_size=len(devices),
                devices=devices,
                rendezvous=str(Path(folder) / "store"),
                backend=backend,
            )
            ours, theirs = self._context.Pipe()
            told, status = self._context.Pipe(duplex=False)
            nursery = self._request(spec, theirs, status)
            theirs.close()
            status.close()
            processes.append(RankProcess(told))
            lines.append(ours)
        return LocalGroup(processes, lines, devices, folder, nursery)

    def _request(self, spec: RankSpec, line: Connection, status: Connection) -> ForkServerProcess:
        """Have one rank forked; returns the nursery that does it, a new one if the former is gone."""
        for _ in range(_STARTS):
            if self._nursery is None:
                ours, theirs = self._context.Pipe()
                process = self._fork(_call, _NURSERY, spec.study_dir, theirs)
                theirs.close()
                self._nursery = process, ours
            process, control = self._nursery
            try:
                request_rank(control, _RANK, spec, line, status)
                return process
            except OSError:
                self._nursery = None
        raise SweepError(f"No rank can be started ({_STARTS} servers died): {_ADVICE}")


def _end_with_driver(line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv()  # the driver never speaks to a call; this returns when it is gone
    os._exit(1)


def _call(function: str, *arguments: Any) -> Any:
    """By name: the driver itself need not import the function's heavy module."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


def _answer(line: Connection, log: Path, function: str, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_driver, args=(line,), daemon=True).start()
    redirect_output(log)
    try:
        answer: Any = _call(function, *arguments)
    except SweepError as error:
        answer = error
    except Exception:
        answer = SweepError(f"{function} failed unexpectedly:\n{traceback.format_exc()}")
    line.send(answer)
