"""The verbs launch and resume, from a config to the summary of a finished study."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from rich.console import Console

from sweep.card import DataCard, read_card
from sweep.config import SweepConfig, typed
from sweep.devices import Device, DevicePool
from sweep.driver import Driver
from sweep.errors import InputError, SweepError, did_you_mean
from sweep.grammar import parse_override
from sweep.launchers.local import LocalLauncher
from sweep.monitor import Monitor
from sweep.paths import StudyPaths
from sweep.sampler import build_pruner, build_sampler, grid_size
from sweep.space import SearchSpace, parse_space
from sweep.status import Status, study_status
from sweep.study import create_study, load_study, requeue
from sweep.summary import introduce, quoted, summarise

_RESUMABLE = ("study.n_trials", "launcher.", "checkpoints.")


def launch(cfg: DictConfig, console: Console) -> int:
    """Run a new study. Returns the exit status: 0, 1 if every trial failed, 128 + signal.

    Raises:
        InputError: wrong input, or a study of that name exists; nothing is left behind then.
        SweepError: a fault at run time.
    """
    config, space = _checked(cfg)
    paths = StudyPaths(Path(config.study.output_dir).expanduser() / config.study.name)
    if paths.root.exists() and any(paths.root.iterdir()):
        raise InputError(
            f"{paths.root} exists already. Continue it with: sweep resume {quoted(paths.root)}\n"
            f"or start another one with: study.name={config.study.name}-2"
        )
    launcher = LocalLauncher(config.launcher)
    with _new_folder(paths.root):
        with console.status("Checking the config; importing torch and transformers …"):
            devices = launcher.call("sweep.prepare:check_study", cfg)
        with _locked(paths):
            with console.status("Reading, splitting and tokenising the data …"):
                card = launcher.call("sweep.prepare:prepare_study", cfg, paths)
            OmegaConf.save(cfg, paths.config)
            study = create_study(config, paths)
    with _locked(paths):
        return _run(config, space, paths, study, launcher, devices, card, console)


def resume(root: Path, overrides: list[str], console: Console) -> int:
    """Continue a study up to its total `study.n_trials`, or a raised one. Returns as `launch`.

    Raises:
        InputError: no study, a study in use, or an override that would mix incomparable trials.
        SweepError: a fault at run time.
    """
    paths, cfg = open_study(root)
    for text in overrides:
        _override(cfg, text)
    config, space = _checked(cfg)
    with _locked(paths):
        OmegaConf.save(cfg, paths.config)
        study = load_study(config, paths)
        interrupted = requeue(study)
        total = effective_trials(config, space)
        status = study_status(study, config, paths, space, total)
        if not status["remaining"]:
            console.print(
                f"{paths.root} is finished: {total} of {total} trials. "
                f"More: sweep resume {quoted(paths.root)} study.n_trials={2 * total}",
                highlight=False,
                soft_wrap=True,
            )
            summarise(status, read_card(paths), paths, console)
            return 0
        for number in interrupted:
            console.print(f"trial {number} was interrupted and continues", highlight=False)
        launcher = LocalLauncher(config.launcher)
        with console.status("Checking the config; importing torch and transformers …"):
            devices = launcher.call("sweep.prepare:check_study", cfg)
        card = read_card(paths)
        return _run(config, space, paths, study, launcher, devices, card, console)


def open_study(root: Path) -> tuple[StudyPaths, DictConfig]:
    """The paths and config of an existing study.

    Raises:
        InputError: `root` is no study's folder.
    """
    paths = StudyPaths(root)
    if not paths.config.is_file() or not paths.data_card.is_file():
        siblings = [str(p.parent) for p in root.parent.glob("*/config.yaml")]
        raise InputError(
            f"{str(root)!r} is no study's folder.{did_you_mean(str(root), siblings)} "
            "Studies lie below outputs/; sweep launch makes one."
        )
    cfg = OmegaConf.load(paths.config)
    assert isinstance(cfg, DictConfig)
    return paths, cfg


def read_status(root: Path) -> Status:
    """The state of the study in `root`; see `study_status`."""
    paths, cfg = open_study(root)
    config, space = typed(cfg), parse_space(cfg)
    study = load_study(config, paths)
    return study_status(study, config, paths, space, effective_trials(config, space))


def effective_trials(config: SweepConfig, space: SearchSpace) -> int:
    """The total budget: `study.n_trials`, or fewer if a grid has fewer points."""
    size = grid_size(config, space)
    return config.study.n_trials if size is None else min(config.study.n_trials, size)


def _checked(cfg: DictConfig) -> tuple[SweepConfig, SearchSpace]:
    """All that can be checked without importing torch, so that most mistakes show at once."""
    config, space = typed(cfg), parse_space(cfg)
    build_pruner(config)
    build_sampler(config, space)
    return config, space


def _override(cfg: DictConfig, text: str) -> None:
    override = parse_override(text)
    path = override.key_or_group
    if override.is_sweep_override() or not path.startswith(_RESUMABLE):
        raise InputError(
            f"'{text}' cannot change when a study is resumed: its trials would not be comparable. "
            "Only study.n_trials, launcher.* and checkpoints.* can; otherwise launch a new study."
        )
    if OmegaConf.select(cfg, path, default="???") == "???":
        known = [f"launcher.{k}" for k in cfg.launcher] + [f"checkpoints.{k}" for k in cfg.checkpoints]
        raise InputError(
            f"The override '{text}' names no setting.{did_you_mean(path, [*known, 'study.n_trials'])}"
        )
    OmegaConf.update(cfg, path, override.value())


def _run(
    config: SweepConfig,
    space: SearchSpace,
    paths: StudyPaths,
    study: Study,
    launcher: LocalLauncher,
    devices: list[Device],
    card: DataCard,
    console: Console,
) -> int:
    total = effective_trials(config, space)
    pool = DevicePool(devices, config.launcher.devices_per_trial)
    introduce(config, space, paths, pool, card, total, console)
    driver = Driver(config, paths, study, launcher, pool, total, Monitor(console))
    code = driver.run()
    status = study_status(study, config, paths, space, total)
    summarise(status, card, paths, console)
    if code == 0 and status["best"] is None:
        raise SweepError(
            f"No trial of {paths.root} was completed; the reasons are above and in "
            f"sweep status {quoted(paths.root)}"
        )
    return code


@contextlib.contextmanager
def _new_folder(root: Path) -> Iterator[None]:
    """Make the study's folder; whatever fails before the study exists leaves nothing behind."""
    made = next((p for p in [*reversed(root.parents), root] if not p.exists()), None)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise InputError(
            f"The folder {root} cannot be written ({error.strerror}): "
            "set study.output_dir to a folder that can."
        ) from None
    try:
        yield
    except BaseException:
        shutil.rmtree(made if made is not None else root, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(paths: StudyPaths) -> Iterator[None]:
    """One driver per study; the lock goes with its process, however it ends."""
    lock = FileLock(paths.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{paths.root} is in use by another sweep: wait for it, or watch it with "
            f"sweep status {quoted(paths.root)}"
        ) from None
    try:
        yield
    finally:
        lock.release()
