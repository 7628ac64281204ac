"""The verb chaos: a study that is killed again and again, compared with one that is not.

Victims and moments are drawn from a seed: the driver (then resumed), the fork server, the nursery or
a rank, each with SIGKILL. The next kill comes a random while after the study is running again.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from optuna.trial import FrozenTrial
from rich.console import Console

from sweep.checkpoint import survey
from sweep.compose import compose
from sweep.errors import InputError, SweepError
from sweep.opening import checked, open_study
from sweep.paths import StudyPaths
from sweep.presence import announced
from sweep.record import ATTEMPTS, epochs_of
from sweep.results import compare_results, study_result
from sweep.study import load_study

_POLL = 0.02


class _Session:
    """One run of `sweep launch` or `sweep resume` as a process of its own."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        with log.open("a") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweep", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:  # chaos itself was interrupted: pause at the epoch's end
            self.process.terminate()
            self.process.wait()

    def victims(self, paths: StudyPaths) -> dict[str, psutil.Process]:
        """Name -> process of everything that may be killed now; ranks only once they have begun."""
        found: dict[str, psutil.Process] = {}
        with contextlib.suppress(psutil.Error):
            # By name and not as children: where a server was killed, what it started lives on.
            for name, process in announced(paths).items():
                if ".rank-" in name:
                    found[name.rpartition(".")[2]] = psutil.Process(process.pid)
            if found:
                nursery = next(iter(found.values())).parent()
                driver = found["driver"] = psutil.Process(self.process.pid)
                servers = [p for p in driver.children() if _is_server(p)]
                found.update(zip(["fork server"], servers, strict=False))
                if nursery is not None and _is_server(nursery):
                    found["nursery"] = nursery
        return found


def _is_server(process: psutil.Process) -> bool:
    return "forkserver" in " ".join(process.cmdline())


@dataclass
class _Killer:
    """Kills, a random while after the study is running (again); remembers what was on disk then.

    Attributes:
        pause: seconds between two kills, on average.
        on_disk: trial, how many attempts it had had, its latest complete epoch.
    """

    paths: StudyPaths
    kills: int
    pause: float
    draw: random.Random
    console: Console
    sessions: int = 0
    victims: Counter[str] = field(default_factory=Counter)
    on_disk: list[tuple[int, int, int]] = field(default_factory=list)

    def watch(self, session: _Session) -> int:
        """Kill until the session ends. Returns its exit status."""
        self.sessions += 1
        next_kill = None
        while session.process.poll() is None:
            time.sleep(_POLL)
            left = self.kills - self.victims.total()
            victims = session.victims(self.paths) if left else {}
            if not victims:
                continue
            if next_kill is None:
                next_kill = time.monotonic() + self.draw.uniform(0, 2 * self.pause)
            if time.monotonic() >= next_kill:
                name = self.draw.choice(sorted(victims))
                with contextlib.suppress(psutil.Error):
                    self._kill(name, victims[name])
                next_kill = None
                time.sleep(5 * _POLL)
        return int(session.process.returncode)

    def _kill(self, name: str, victim: psutil.Process) -> None:
        on_disk = _on_disk(self.paths)
        victim.kill()
        self.victims[name] += 1
        self.on_disk += on_disk
        self.console.print(f"kill {self.victims.total()} of {self.kills}: {name}", highlight=False)


def chaos(overrides: list[str], kills: int, seed: int, console: Console) -> int:
    """Run the study of `overrides` undisturbed and with `kills` SIGKILLs; report what differs.

    Returns:
        0 if nothing was lost and nothing differs, else 1.

    Raises:
        InputError: settings that a launch would refuse too.
        SweepError: the undisturbed study fails by itself.
    """
    if kills < 1:
        raise InputError(f"--kills {kills} must be at least 1.")
    cfg = compose(overrides)
    config, _ = checked(cfg, inputs=True)
    name = config.study.name
    parent = Path(config.study.output_dir).expanduser()
    calm, killed = (StudyPaths(parent / f"{name}-{kind}") for kind in ("calm", "chaos"))
    for paths in (calm, killed):
        if paths.root.exists():
            raise InputError(f"{paths.root} exists already: remove it, or choose another study.name.")
    # One trial at a time: with several, which of them ends first decides what is sampled next.
    ranks = config.launcher.devices_per_trial
    common = [*overrides, f"launcher.devices={ranks}", f"launcher.max_attempts={kills + 1}"]
    log = parent / f"{name}-chaos.log"
    parent.mkdir(parents=True, exist_ok=True)
    with console.status(f"Running {name}-calm, undisturbed …"):
        with _Session(["launch", *common, f"study.name='{name}-calm'"], log) as session:
            code = session.process.wait()
        if code:
            raise SweepError(f"The undisturbed study failed by itself; its output is in {log}")
        seconds = _seconds_trained(calm)
    console.print(f"undisturbed: {seconds:.1f} s of training", highlight=False)
    # So that all kills fit into the study.
    killer = _Killer(killed, kills, seconds / (kills + 1), random.Random(seed), console)
    arguments = ["launch", *common, f"study.name='{name}-chaos'"]
    while True:
        with _Session(arguments, log) as session:
            code = killer.watch(session)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            raise SweepError(f"The killed study ended with exit status {code}; its output is in {log}")
        arguments = ["resume", str(killed.root)]
    if not _report(calm, killer, console):
        return 1
    for paths in (calm, killed):
        shutil.rmtree(paths.root)
    log.unlink()
    console.print("Nothing was lost. Both studies have been removed.", highlight=False)
    return 0


def _report(calm: StudyPaths, killer: _Killer, console: Console) -> bool:
    """Print what happened. Returns whether nothing was lost."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    before, after = study_result(calm.root), study_result(killer.paths.root)
    lines = compare_results(before, after)
    wanted, got = ([t["number"] for t in result["trials"]] for result in (before, after))
    repeated, lost = _epochs(killer)
    landed = killer.victims.total()
    what = ", ".join(f"{count} {name}" for name, count in sorted(killer.victims.items()))
    say(f"\nkills                                  {landed} ({what}), {killer.sessions} sessions")
    say(f"epochs repeated (those in flight)      {repeated}")
    say(f"epochs lost beyond the one in flight   {lost}")
    say(f"trials lost                            {len(set(wanted) - set(got))}")
    say(f"trials too many                        {len(got) - len(set(got) & set(wanted))}")
    say(f"differences from the undisturbed study {len(lines)}")
    for line in lines:
        say(f"  {line}")
    if landed < killer.kills:
        say(f"The study ended before {killer.kills} kills had landed: give it more trials or epochs.")
    return not (lines or lost)


def _trials(paths: StudyPaths) -> list[FrozenTrial]:
    opened, cfg = open_study(paths.root)
    return load_study(checked(cfg)[0], opened).get_trials(deepcopy=False)


def _seconds_trained(paths: StudyPaths) -> float:
    return sum(m["seconds"] for t in _trials(paths) for m in epochs_of(t.user_attrs).values())


def _on_disk(paths: StudyPaths) -> list[tuple[int, int, int]]:
    """The running trials' numbers, attempts so far, and latest complete epochs."""
    return [
        (t.number, len(t.user_attrs.get(ATTEMPTS, [])), survey(paths.trial(t.number), None, False).epoch)
        for t in _trials(paths)
        if not t.state.is_finished()
    ]


def _epochs(killer: _Killer) -> tuple[int, int]:
    """How many epochs were begun again, and how many that had been complete were trained again."""
    attempts = {t.number: t.user_attrs.get(ATTEMPTS, []) for t in _trials(killer.paths)}
    lost = 0
    for number, before, epoch in killer.on_disk:
        if before < len(attempts[number]):  # the attempt that came next
            lost += max(0, epoch - attempts[number][before]["kept_epochs"])
    return sum(max(0, len(own) - 1) for own in attempts.values()), lost
