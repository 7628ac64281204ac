"""The verb chaos: a study that is killed again and again, compared with one that is not.

Victims and moments are drawn from a seed: the driver (then resumed), the fork server, or a rank,
each with SIGKILL. The next kill comes a random while after the study is running again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import FrozenTrial
from rich.console import Console

from sweep.checkpoint import survey
from sweep.compose import compose
from sweep.errors import InputError, SweepError
from sweep.opening import checked, open_study
from sweep.paths import StudyPaths
from sweep.record import ATTEMPTS, epochs_of
from sweep.study import load_study

_TIMES = ("seconds", "runtime", "samples_per_second", "steps_per_second")
_POLL = 0.02


def study_result(root: Path) -> dict[str, Any]:
    """Everything of a finished study that must not depend on crashes.

    Returns:
        `trials`: by number, the state, value, parameters and each epoch's metrics but for times;
        `weights`: sha256 of the best epoch's weights.
    """
    from sweep.commands import read_status

    status = read_status(root)
    trials = [
        {
            "number": t["number"],
            "state": t["state"],
            "value": t["value"],
            "params": t["params"],
            "epochs": [{k: v for k, v in e.items() if k not in _TIMES} for e in t["epochs"]],
        }
        for t in status["trials"]
    ]
    weights = None
    if status["best"] is not None and status["best"]["checkpoint"] is not None:
        file = Path(status["best"]["checkpoint"]) / "model.safetensors"
        weights = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"trials": trials, "weights": weights}


def compare_results(calm: dict[str, Any], killed: dict[str, Any]) -> list[str]:
    """One line for each difference between two results of `study_result`."""
    lines = []
    a, b = calm["trials"], killed["trials"]
    numbers = [t["number"] for t in b]
    lines += [f"trial {t['number']} is missing" for t in a if t["number"] not in numbers]
    lines += [f"trial {n} is there {c} times" for n, c in Counter(numbers).items() if c > 1]
    lines += [f"trial {n} is one too many" for n in numbers if n >= len(a)]
    for before, after in zip(a, b, strict=False):
        lines += [
            f"trial {before['number']}: {key} is {after[key]!r} instead of {before[key]!r}"
            for key in before
            if before[key] != after[key]
        ]
    if calm["weights"] != killed["weights"]:
        lines.append(f"the best weights have sha256 {killed['weights']} instead of {calm['weights']}")
    return lines


@dataclass
class Tally:
    """What was killed, and what was on disk at these moments.

    Attributes:
        on_disk: trial, how many attempts it had had, its latest complete epoch.
    """

    victims: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    on_disk: list[tuple[int, int, int]] = field(default_factory=list)


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

    def victims(self, paths: StudyPaths) -> dict[str, psutil.Process]:
        """Name -> process of everything that may be killed now; ranks only once they have begun."""
        found: dict[str, psutil.Process] = {}
        with contextlib.suppress(psutil.Error):
            driver = psutil.Process(self.process.pid)
            family = driver.children(recursive=True)
            ranks = {}
            for file in paths.processes.glob("*.rank-*.json"):
                with contextlib.suppress(OSError, ValueError):
                    ranks[json.loads(file.read_text())["pid"]] = file.stem.rpartition(".")[2]
            found = {ranks[p.pid]: p for p in family if p.pid in ranks}
            if found:
                found["driver"] = driver
                server = [p for p in family if "forkserver" in " ".join(p.cmdline()) and p.pid not in ranks]
                found.update(zip(["fork server"], server, strict=False))
        return found


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
        session = _Session(["launch", *common, f"study.name='{name}-calm'"], log)
        if session.process.wait():
            raise SweepError(f"The undisturbed study failed by itself; its output is in {log}")
        seconds = _seconds_trained(calm)
    console.print(f"undisturbed: {seconds:.1f} s of training", highlight=False)
    tally = _disturb(
        ["launch", *common, f"study.name='{name}-chaos'"], killed, kills, seconds, seed, log, console
    )
    return _report(calm, killed, tally, kills, console)


def _disturb(
    launch: list[str],
    paths: StudyPaths,
    kills: int,
    seconds: float,
    seed: int,
    log: Path,
    console: Console,
) -> Tally:
    draw, tally, arguments = random.Random(seed), Tally(), launch
    pause = seconds / (kills + 1)  # so that the kills fit into the study
    while True:
        session = _Session(arguments, log)
        tally.sessions += 1
        next_kill = None
        while session.process.poll() is None:
            time.sleep(_POLL)
            done = sum(tally.victims.values())
            victims = session.victims(paths) if done < kills else {}
            if not victims:
                continue
            if next_kill is None:
                next_kill = time.monotonic() + draw.uniform(0, 2 * pause)
            if time.monotonic() >= next_kill:
                victim = draw.choice(sorted(victims))
                with contextlib.suppress(psutil.Error):
                    on_disk = _on_disk(paths)
                    victims[victim].kill()
                    tally.victims[victim] += 1
                    tally.on_disk += on_disk
                    console.print(f"kill {done + 1} of {kills}: {victim}", highlight=False)
                next_kill = None
                time.sleep(5 * _POLL)
        code = session.process.returncode
        if code == 0:
            return tally
        if code != -9:
            raise SweepError(f"The killed study ended with exit status {code}; its output is in {log}")
        arguments = ["resume", str(paths.root)]


def _report(calm: StudyPaths, killed: StudyPaths, tally: Tally, kills: int, console: Console) -> int:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    landed = sum(tally.victims.values())
    lines = compare_results(study_result(calm.root), study_result(killed.root))
    repeated, lost = _epochs(killed, tally)
    what = ", ".join(f"{count} {name}" for name, count in sorted(tally.victims.items()))
    say(f"\nkills                                  {landed} ({what}), {tally.sessions} sessions")
    say(f"epochs repeated (those in flight)      {repeated}")
    say(f"epochs lost beyond the one in flight   {lost}")
    say(f"differences from the undisturbed study {len(lines)}")
    for line in lines:
        say(f"  {line}")
    if landed < kills:
        say(f"The study ended before {kills} kills had landed: give it more trials or epochs.")
    if lines or lost:
        return 1
    for paths in (calm, killed):
        shutil.rmtree(paths.root)
    say("Nothing was lost. Both studies have been removed.")
    return 0


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


def _epochs(paths: StudyPaths, tally: Tally) -> tuple[int, int]:
    """How many epochs were begun again, and how many that had been complete were trained again."""
    kept = {t.number: [a["kept_epochs"] for a in t.user_attrs.get(ATTEMPTS, [])] for t in _trials(paths)}
    lost = 0
    for number, attempts, epoch in tally.on_disk:
        if attempts < len(kept[number]):  # the attempt that came next
            lost += max(0, epoch - kept[number][attempts])
    return sum(len(attempts) - 1 for attempts in kept.values()), lost
