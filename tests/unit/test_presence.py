"""A process is known by more than its pid; a lock by its holder; old ranks are certain to be gone."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.paths import StudyPaths
from sweep.presence import announce, driver_of, driving, make_certain_gone, this_process


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path)


def test_a_reused_pid_is_another_process(paths: StudyPaths) -> None:
    me = this_process()
    assert me.alive()
    former = dataclasses.replace(me, started=me.started - 1)
    assert not former.alive(), "same pid, other start time"
    assert not dataclasses.replace(me, host="elsewhere").alive()
    assert not dataclasses.replace(me, boot="before").alive()
    paths.processes.mkdir()
    for name, process in {"a.rank-0": former, "b.rank-0": dataclasses.replace(me, host="elsewhere")}.items():
        (paths.processes / f"{name}.json").write_text(json.dumps(dataclasses.asdict(process)))
    (paths.processes / "torn.json").write_text('{"pid":')
    assert make_certain_gone(paths, grace=0) == [], "or this test would be dead"
    assert list(paths.processes.iterdir()) == []


def test_a_process_that_stays_is_killed_by_name(paths: StudyPaths) -> None:
    program = (
        "import sys, time; from pathlib import Path; from sweep.presence import announce\n"
        "from sweep.paths import StudyPaths\n"
        "announce(StudyPaths(Path(sys.argv[1])), sys.argv[2]); print('here', flush=True); time.sleep(60)"
    )
    names = ("x-1.rank-0", "x-10.rank-0")
    old = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(paths.root), name], stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    for process in old:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    assert make_certain_gone(paths, "x-1.", grace=0.2) == [old[0].pid]
    assert old[0].wait(5) == -9
    assert old[1].poll() is None
    assert make_certain_gone(paths, grace=0.2) == [old[1].pid]
    old[1].wait(5)


def test_one_driver_at_a_time_and_its_name_is_told(paths: StudyPaths) -> None:
    program = (
        "import sys; from pathlib import Path; from sweep.presence import driving\n"
        "from sweep.paths import StudyPaths\n"
        "with driving(StudyPaths(Path(sys.argv[1]))): print('here', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(paths.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "here\n"
    with pytest.raises(InputError, match=f"in use by process {other.pid} on {os.uname().nodename}"):
        driving(paths).__enter__()
    assert driver_of(paths) is not None, "a refusal leaves the holder's name"
    other.kill()
    other.wait()
    with driving(paths):
        assert driver_of(paths) == this_process(), "taken over from the dead one"
    assert driver_of(paths) is None
    announce(paths, "x")
