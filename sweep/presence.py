"""Which processes work on a study: known by host, pid and start time, for a pid alone is reused."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from sweep.errors import InputError, SweepError
from sweep.files import write_text
from sweep.paths import StudyPaths

_GRACE = 5.0  # seconds an old rank has to notice that its driver is gone
_KILLED = 30.0  # seconds until a killed process must have vanished


@dataclass(frozen=True)
class ProcessId:
    """One process of one machine, for all time.

    Attributes:
        started: of Linux, clock ticks between boot and start (it does not move with the wall
            clock); elsewhere seconds since the epoch.
        boot: of Linux, the id of the machine's boot.
    """

    host: str
    pid: int
    started: float
    boot: str

    @property
    def here(self) -> bool:
        """Whether it belongs to this machine and this boot, so that it can be looked for."""
        return (self.host, self.boot) == (platform.node(), _boot())

    def alive(self) -> bool:
        """Whether this very process still runs; False for other machines, which cannot be seen."""
        if not self.here or _started(self.pid) != self.started:
            return False
        with contextlib.suppress(psutil.Error):
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        return False


def _boot() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""


def _started(pid: int) -> float | None:
    try:
        if Path("/proc/self/stat").exists():
            # The name in brackets may hold blanks; start time is the 20th field after it (proc(5)).
            return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return psutil.Process(pid).create_time()
    except (OSError, psutil.Error):
        return None


def this_process() -> ProcessId:
    """The calling process."""
    started = _started(os.getpid())
    assert started is not None
    return ProcessId(platform.node(), os.getpid(), started, _boot())


def _read(file: Path) -> ProcessId | None:
    try:
        return ProcessId(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def driver_of(paths: StudyPaths) -> ProcessId | None:
    """The process that drives, or last drove, the study."""
    return _read(paths.driver)


@contextlib.contextmanager
def driving(paths: StudyPaths) -> Iterator[None]:
    """Be the study's only driver; the lock goes with its process, however it ends.

    Raises:
        InputError: another driver holds it (names its pid and host), or the folder cannot be written.
    """
    lock = FileLock(paths.lock, timeout=0)
    try:
        lock.acquire()
        write_text(paths.driver, json.dumps(asdict(this_process())))
    except Timeout:
        other = driver_of(paths)
        who = f"process {other.pid} on {other.host}" if other else "another process"
        raise InputError(
            f"{paths.root} is in use by {who}: wait for it, watch it with sweep status, "
            "or pause it with sweep stop."
        ) from None
    except OSError as error:
        lock.release()
        raise InputError(
            f"{paths.root} cannot be written ({error.strerror}): make it writable, or make room on its disk."
        ) from None
    try:
        yield
    finally:
        paths.driver.unlink(missing_ok=True)
        lock.release()


def announce(paths: StudyPaths, name: str) -> None:
    """Let later drivers know that this process works on the study as `name`."""
    paths.processes.mkdir(exist_ok=True)
    write_text(paths.processes / f"{name}.json", json.dumps(asdict(this_process())), lasting=False)


def announced(paths: StudyPaths) -> dict[str, ProcessId]:
    """The processes that work on the study now, by the names they gave themselves."""
    found = {file.stem: _read(file) for file in paths.processes.glob("*.json")}
    return {name: process for name, process in found.items() if process is not None and process.alive()}


def make_certain_gone(paths: StudyPaths, name: str = "", grace: float = _GRACE) -> list[int]:
    """Wait for announced processes (whose names start with `name`) to end; kill those that do not.

    Returns:
        The pids that had to be killed.

    Raises:
        SweepError: one does not even end when killed.
    """
    files = sorted(paths.processes.glob(f"{name}*.json"))
    old = [found for file in files if (found := _read(file)) is not None]
    _wait(old, grace)
    stubborn = [process for process in old if process.alive()]
    for process in stubborn:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    if left := _wait(stubborn, _KILLED):
        raise SweepError(
            f"Process {left[0].pid} of a former driver of {paths.root} does not end, even when killed: "
            "end it (or restart the machine), then resume."
        )
    for file in [*files, *paths.processes.glob(f".{name}*.new")]:
        file.unlink(missing_ok=True)
    return [process.pid for process in stubborn]


def _wait(processes: list[ProcessId], seconds: float) -> list[ProcessId]:
    deadline, pause = time.monotonic() + seconds, 0.001
    while (left := [p for p in processes if p.alive()]) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return left
