"""The nursery, of which every rank is a fork: killed, stopped or grown, and the study does not notice."""

from __future__ import annotations

import os
import shutil
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweep.launchers import nursery
from sweep.launchers.nursery import RankProcess, request_rank
from sweep.ranks import RankSpec
from sweep.results import compare_results, study_result
from tests.conftest import Command, RunStudy
from tests.faults.harness import Running

_SPEC = RankSpec("study", "attempt", 0, 1, (), "store", "gloo")


def _servers(running: Running) -> list[psutil.Process]:
    """The fork server and its fork, the nursery, of a study whose trial runs."""
    driver = psutil.Process(running.process.pid)
    (server,) = [p for p in driver.children() if p.children()]
    (nursery,) = server.children()
    return [server, nursery]


def test_servers_that_die_or_stop_are_replaced(
    tiny_overrides: list[str], sweep_command: Command, tmp_path: Path
) -> None:
    study = [*tiny_overrides, "study.n_trials=4", "trainer.num_train_epochs=6"]
    study += ["trainer.learning_rate=interval(1e-4,1e-2)", "launcher.hang_timeout=6"]
    assert sweep_command("launch", *study, "study.name=calm").returncode == 0
    root = tmp_path / "out" / "tiny"
    running = Running(["launch", *study], tmp_path)
    running.wait_for("trial 0  epoch 1")
    server, nursery = _servers(running)
    threads = [Path(f"/proc/{nursery.pid}/task/{t.id}/comm").read_text() for t in nursery.threads()]
    # Arrow's allocator looks after its own thread when the process forks.
    assert len([name for name in threads if "jemalloc" not in name]) == 1, "it would not be safe to fork"
    nursery.kill()
    running.wait_for("trial 1  epoch 1")
    second = psutil.Process(running.ranks(root)[0].ppid())  # before its parent's end takes it out of sight
    server.kill()
    assert second.pid != nursery.pid
    second.kill()
    running.wait_for("trial 2  epoch 1")
    third = running.ranks(root)[0].parent()
    assert third is not None
    third.suspend()  # it starts no further rank, and tells of no end
    assert running.process.wait(180) == 0, running.output
    assert not third.is_running()
    assert compare_results(study_result(tmp_path / "out" / "calm"), study_result(root)) == []
    assert "attempt 2" not in running.output.split("trial 3")[0], "no running trial was disturbed"


def test_nothing_is_read_again_for_a_trial(
    tiny_overrides: list[str], tiny_model: Path, sweep_command: Command, tmp_path: Path
) -> None:
    """Model, tokenizer, tokens and the user's data can vanish once trials run: they are in memory, once."""
    study = [*tiny_overrides, "study.n_trials=3", "trainer.num_train_epochs=2"]
    study += ["trainer.learning_rate=interval(1e-4,1e-2)", "trainer.seed=choice(1,2)"]
    assert sweep_command("launch", *study, "study.name=calm").returncode == 0
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    root = tmp_path / "out" / "tiny"
    running = Running(["launch", *study, f"model.path='{model}'"], tmp_path)
    running.wait_for("trial 0  epoch 1")
    shutil.rmtree(model)
    (tokens,) = (found for found in root.glob("data/tokens-*") if found.is_dir())
    shutil.rmtree(tokens)
    assert running.process.wait(180) == 0, running.output
    calm, bare = study_result(tmp_path / "out" / "calm"), study_result(root)
    assert len(bare["trials"]) == 3
    assert compare_results(calm, bare) == []


class _Growing:
    """Parts that take 100 MB more with every rank."""

    def __init__(self) -> None:
        self.memory: list[bytearray] = []

    def read_ahead(self) -> None:
        self.memory.append(bytearray(os.urandom(1) * 100_000_000))


def answer(spec: RankSpec, line: Connection, parts: Any) -> int:
    """A rank that tells what it inherited."""
    line.send((spec.attempt, len(parts.memory), os.getpid()))
    return 7


def _ask(control: Connection) -> tuple[Any, RankProcess]:
    ours, theirs = Pipe()
    told, status = Pipe(duplex=False)
    request_rank(control, "tests.faults.test_nursery:answer", _SPEC, theirs, status)
    theirs.close()
    status.close()
    return ours, RankProcess(told)


def test_one_that_has_grown_lets_its_ranks_end_and_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "_GROWTH", 250_000_000)
    monkeypatch.setattr(nursery, "_HOUSEKEEPING", 1)
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        nursery._Server(theirs, _Growing()).run()  # type: ignore[arg-type]
        os._exit(0)
    theirs.close()
    for count in range(3):
        line, rank = _ask(ours)
        attempt, inherited, child = line.recv()
        assert (attempt, inherited) == ("attempt", count), "each rank sees what the nursery has read ahead"
        rank.join(10)
        assert rank.exitcode == 7
        assert rank.pid == child
    time.sleep(0.5)
    with pytest.raises(OSError):
        _ask(ours)
    assert os.waitpid(pid, 0)[1] == 0


def test_two_trials_share_a_device(run_study: RunStudy) -> None:
    found = run_study("launcher.trials_per_device=2", "study.n_trials=2", "trainer.num_train_epochs=4")
    assert "1 device, 1 per trial, 2 trials share one, 2 trials at a time" in found.output
    assert [t["state"] for t in found.status["trials"]] == ["COMPLETE", "COMPLETE"]
    before_any_end = found.output.split("epoch 4")[0]
    assert all(f"trial {number}  epoch 1" in before_any_end for number in range(2)), found.output
