"""Kills at named points: the n-th call of a function ends its process, its driver, or both.

In a test, `plan` writes down where; `run_rank` takes the place of `sweep.attempt:run_rank` and carries
it out in the ranks. `python -m tests.faults.points PLAN VERB …` is the command `sweep` as the victim.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweep.launchers import local
from sweep.ranks import RankSpec

RANK = "tests.faults.points:run_rank"


@dataclass(frozen=True)
class Point:
    """Where to kill.

    Attributes:
        target: "module:name" or "module:Class.name" of the function.
        when: "before" or "after" its call.
        who: whose call: "rank 0", "rank 1" or "driver".
        kill: "self", "driver", or "both" (the driver first).
        nth: which call, counted over all processes that get there.
        tear: first empty the files of the checkpoint that is the call's argument, like a power cut
            before they were flushed.
    """

    target: str
    when: str = "before"
    who: str = "rank 0"
    kill: str = "self"
    nth: int = 1
    tear: bool = False

    def __str__(self) -> str:
        return f"{self.when}-{self.target.rpartition(':')[2]}-{self.nth}-{self.who}-{self.kill}"


def plan_file(study: Path) -> Path:
    return study.parent / f"{study.name}.faults"


def plan(study: Path, points: list[Point]) -> None:
    """Arm `points` for the study in the folder `study`."""
    folder = plan_file(study)
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps([asdict(p) for p in points]))


def landed(study: Path) -> list[int]:
    """Which points have killed, in their order in the plan."""
    return sorted(int(f.name.split("-")[1]) for f in plan_file(study).glob("killed-*"))


def _count(file: Path) -> int:
    """Count up in a file that survives its processes: one byte a call."""
    with file.open("ab") as stream:
        stream.write(b".")
    return file.stat().st_size


def arm(study: Path, who: str, driver: int) -> None:
    """Wrap the functions at which process `who` of the study has something to do."""
    folder = plan_file(study)
    if not folder.exists():
        return
    for number, raw in enumerate(json.loads((folder / "plan.json").read_text())):
        point = Point(**raw)
        if point.who == who and not (folder / f"killed-{number}").exists():
            _wrap(point, number, folder, driver)


def _wrap(point: Point, number: int, folder: Path, driver: int) -> None:
    module, _, name = point.target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, leaf = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., Any] = getattr(owner, leaf)

    def strike(*args: Any) -> None:
        if _count(folder / f"calls-{number}") != point.nth:
            return
        (folder / f"killed-{number}").touch()
        if point.tear:
            for file in args[0].path.iterdir():
                os.truncate(file, 0)
        if point.kill != "self":
            os.kill(driver, signal.SIGKILL)
        if point.kill != "driver":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(30)  # until the rank notices that its driver is gone

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before":
            strike(*args)
        result = original(*args, **kwargs)
        if point.when == "after":
            strike(*args)
        return result

    setattr(owner, leaf, wrapped)


def run_rank(spec: RankSpec, line: Connection, parts: Any) -> int:
    """A rank that may be killed at its points."""
    from sweep.attempt import run_rank as real

    driver = int(spec.attempt.split("-")[1])
    arm(Path(spec.study_dir), f"rank {spec.rank}", driver)
    return real(spec, line, parts)


def main() -> None:
    """`sweep` with the points of the study in argv[1] armed."""
    from sweep.cli import main as sweep

    local._RANK = RANK
    arm(Path(sys.argv[1]), "driver", os.getpid())
    sweep(sys.argv[2:])


if __name__ == "__main__":
    main()
