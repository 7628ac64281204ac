"""Machines that fail in other ways: full disks, read-only disks, too little memory, bad settings."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from sweep.commands import read_status
from sweep.results import compare_results, study_result
from tests.conftest import Command, RunStudy
from tests.faults.harness import REPOSITORY, Running

_STUDY = ["trainer.num_train_epochs=4", "study.n_trials=2", "trainer.learning_rate=interval(1e-3,1e-2)"]


def _on_small_disk(script: str, disk: Path, cwd: Path) -> str:
    """Run a shell script with a tmpfs of 96 MB at `disk`, in a mount namespace of its own."""
    unshare = shutil.which("unshare")
    assert unshare, "a small disk needs unshare, of the package util-linux"
    allowed = subprocess.run([unshare, "-rm", "true"], capture_output=True, text=True, check=False)
    assert allowed.returncode == 0, f"a small disk needs user namespaces: {allowed.stderr}"
    disk.mkdir(parents=True)
    mount = f"set -eu; mount -t tmpfs -o size=96m tmpfs {shlex.quote(str(disk))}\n"
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", mount + script],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_full_disk_pauses_the_study_and_loses_nothing(
    tiny_overrides: list[str], run_study: RunStudy, sweep_command: Command, tmp_path: Path
) -> None:
    """Full in mid-trial, so that the report fails; too full for a checkpoint; then read-only."""
    study = [*tiny_overrides, *_STUDY]
    calm = run_study(*_STUDY, name="calm")
    disk = tmp_path / "small disk"
    root = disk / "tiny"
    words = " ".join(shlex.quote(w) for w in [*study, f"study.output_dir='{disk}'"])
    sweep, where = f"{shlex.quote(sys.executable)} -m sweep", shlex.quote(str(root))
    ballast = shlex.quote(str(disk / "ballast"))
    said = _on_small_disk(
        f"""
        {sweep} launch {words} > first.txt 2>&1 & driver=$!
        until grep -q 'trial 0  epoch 1' first.txt; do sleep 0.02; done
        dd if=/dev/zero of={ballast} bs=64k 2> /dev/null || true
        code=0; wait $driver || code=$?; echo "full: $code"
        code=0; {sweep} resume {where} > second.txt 2>&1 || code=$?; echo "still full: $code"
        rm {ballast}
        free=$(df --output=avail -B1 {where} | tail -1)
        head -c $((free - 10000000)) /dev/zero > {ballast}
        code=0; {sweep} resume {where} > third.txt 2>&1 || code=$?; echo "10 MB left: $code"
        rm {ballast}
        mount -o remount,ro {shlex.quote(str(disk))}
        code=0; {sweep} resume {where} > fourth.txt 2>&1 || code=$?; echo "read-only: $code"
        {sweep} status {where} > status.txt; echo "status: $?"
        mount -o remount,rw {shlex.quote(str(disk))}
        {sweep} resume {where} > fifth.txt 2>&1; echo "room: $?"
        cp -r {where} kept
        """,
        disk,
        tmp_path,
    )
    texts = [(tmp_path / f"{n}.txt").read_text() for n in ("first", "second", "third", "fourth", "fifth")]
    told = dict(line.split(": ") for line in said.splitlines())
    assert told["full"] == "1", texts[0]
    assert "The study is paused: " in texts[0]
    assert "sweep resume" in texts[0]
    assert told["still full"] in ("1", "2"), texts[1]
    assert told["10 MB left"] == "1", texts[2]
    assert "a checkpoint needs" in texts[2]
    assert (told["read-only"], told["status"]) == ("2", "0"), texts[3]
    assert "cannot be written (Read-only file system)" in texts[3]
    assert told["room"] == "0", texts[4]
    assert not any("Traceback" in text for text in texts), texts
    assert compare_results(study_result(calm.root), study_result(tmp_path / "kept")) == []
    final = json.loads(sweep_command("status", "kept", "--json").stdout)
    assert [t["error"] for t in final["trials"]] == [None, None]


def test_three_failures_alike_end_the_study_early(run_study: RunStudy) -> None:
    found = run_study("trainer.learning_rate=interval(1e28,1e30)", "study.n_trials=6", "pruner=none")
    assert found.code == 1
    assert "The first 3 trials failed for the same reason" in found.output
    assert "training diverged" in found.output
    assert [t["state"] for t in found.status["trials"]] == ["FAIL"] * 3
    assert found.status["remaining"] == 3


def test_out_of_memory_halves_the_batch_per_device(
    tiny_overrides: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    """The fork server's address space is limited after its start, which its ranks inherit."""
    wide = ["+model.config.intermediate_size=6000", "trainer.global_batch_size=32", "task.max_length=128"]
    wide += ["trainer.num_train_epochs=2", "trainer.train_sampling_strategy=random"]
    calm = run_study(*wide, name="calm")
    running = Running(["launch", *tiny_overrides, *wide], tmp_path)
    running.wait_for("trial 0  epoch 1")
    rank = running.ranks(tmp_path / "out" / "tiny")[0]
    status = Path(f"/proc/{rank.pid}/status").read_text()
    peak = 1024 * int(status.partition("VmPeak:")[2].split()[0])
    server = rank.parent()
    assert server is not None
    start = server.memory_info().vms
    limit = start + int(0.75 * (peak - start))
    server.rlimit(psutil.RLIMIT_AS, (limit, limit))
    rank.send_signal(signal.SIGKILL)
    assert running.process.wait(120) == 0, running.output
    assert "out of memory with 32 samples per device: it continues with 16" in running.output
    root = tmp_path / "out" / "tiny"
    config = OmegaConf.load(root / "trials" / "0000" / "config.yaml")
    assert config.trainer.global_batch_size == 32
    assert config.trainer.max_per_device_batch_size == config.trainer.eval_batch_size <= 16
    losses = [e["loss"] for e in read_status(root)["trials"][0]["epochs"]]
    assert losses == pytest.approx(calm.losses(0), abs=2e-2), "the same global batch"
