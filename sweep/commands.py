"""The verbs launch, resume and status, from a config to the summary of a finished study."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from optuna.study import Study
from rich.console import Console

from sweep.card import DataCard, read_card
from sweep.creation import create, is_unused, make_folder, removed_unless_ready, save_config
from sweep.devices import Machine, choose_devices
from sweep.driver import Driver
from sweep.errors import InputError, SweepError
from sweep.launchers.local import LocalLauncher
from sweep.monitor import Monitor
from sweep.opening import checked, effective_trials, open_study, state_of
from sweep.paths import StudyPaths
from sweep.pool import DevicePool
from sweep.presence import driving
from sweep.recovery import after_checkpoint, recover, take_choice
from sweep.resumption import changed_config, compare, compare_model
from sweep.retention import Retention
from sweep.sampler import build_pruner
from sweep.schema import SweepConfig
from sweep.space import SearchSpace
from sweep.standing import Standing
from sweep.status import Status, study_status, trial_count
from sweep.storage import storage_faults
from sweep.study import epochs_done, load_study, on_disk, seconds_spent, study_exists
from sweep.summary import introduce, quoted, summarise


def launch(cfg: DictConfig, console: Console) -> int:
    """Run a new study. Returns the exit status: 0, 1 if every trial failed, 128 + signal.

    Raises:
        InputError: wrong input, or a study of that name exists; nothing is left behind then.
        SweepError: a fault at run time.
    """
    config, space = checked(cfg, inputs=True)
    paths = StudyPaths(Path(config.study.output_dir).expanduser() / config.study.name)
    _refuse_used(paths, config)
    launcher = LocalLauncher(config.launcher)
    made = make_folder(paths.root)
    with driving(paths), storage_faults(paths), removed_unless_ready(paths.root, made) as ready:
        save_config(cfg, paths)
        machine, study = create(cfg, paths, launcher, console)
        ready()
        return _run(config, space, paths, study, launcher, machine, read_card(paths), console)


def _refuse_used(paths: StudyPaths, config: SweepConfig) -> None:
    if not is_unused(paths):
        raise InputError(
            f"{paths.root} exists already. Continue it with: sweep resume {quoted(paths.root)}\n"
            f"or start another one with: study.name={config.study.name}-2"
        )


def resume(root: Path, words: list[str], widen: bool, console: Console) -> int:
    """Continue a study up to its total `study.n_trials`, or a raised one. Returns as `launch`.

    Args:
        root: the study's folder.
        words: overrides, and `trial=N from=CHECKPOINT` to continue one trial from an earlier epoch.
        widen: allow intervals of the search space to become wider.
        console: where to print.

    Raises:
        InputError: no study, a study in use, or a change that would mix incomparable trials.
        SweepError: a fault at run time.
    """
    paths, old = open_study(root)
    choice, overrides = take_choice(words)
    cfg = changed_config(old, overrides)
    config, space = checked(cfg)
    with driving(paths), storage_faults(paths):
        console.print(f"resuming {paths.root}", highlight=False, soft_wrap=True)
        launcher = LocalLauncher(config.launcher)
        if not study_exists(config, paths):
            save_config(cfg, paths)
            machine, study = create(cfg, paths, launcher, console)
            return _run(config, space, paths, study, launcher, machine, read_card(paths), console)
        begun = compare(old, cfg, widen, paths)
        study = load_study(config, paths)
        later = [] if choice is None else after_checkpoint(study, paths, *choice)
        status = state_of(study, config, paths, space)
        if over := _over(config, study, status, paths):
            # The driver may have died after the last trial's last word, before its own.
            recover(study, paths, [], build_pruner(config), console)
            retention = Retention(paths, config.checkpoints, Monitor(console).note)
            ranking = Standing(study, config.objective).ranking()
            retention.open(on_disk(study, config.objective), ranking)
            console.print(over, highlight=False, soft_wrap=True)
            summarise(status, read_card(paths), paths, console)
            return 0
        compare_model(begun, cfg, paths, launcher, console)
        save_config(cfg, paths)
        recover(study, paths, later, build_pruner(config), console)
        with console.status("Checking the config; importing torch and transformers …"):
            machine = launcher.call("sweep.prepare:check_study", cfg)
        return _run(config, space, paths, study, launcher, machine, read_card(paths), console)


def _over(config: SweepConfig, study: Study, status: Status, paths: StudyPaths) -> str | None:
    """Why there is nothing to resume, and what to type for more."""
    total, root = status["n_trials"], quoted(paths.root)
    if not status["remaining"]:
        return (
            f"{paths.root} is finished: {total} of {total} trials. "
            f"More: sweep resume {root} study.n_trials={2 * total}"
        )
    spent = {
        "timeout": (config.study.timeout, " s", seconds_spent(study)),
        "max_epochs": (config.study.max_epochs, "", sum(map(len, epochs_done(study).values()))),
    }
    to_go = trial_count(status["remaining"])
    for name, (limit, unit, used) in spent.items():
        if limit is not None and used >= limit:
            return (
                f"{paths.root} has used its study.{name}={limit}{unit}; {to_go} to go. "
                f"More: sweep resume {root} study.{name}={2 * limit}"
            )
    patience = config.study.patience
    waiting = any(t["state"] in ("WAITING", "RUNNING") for t in status["trials"])
    if patience is not None and not waiting and Standing(study, config.objective).out_of_patience(patience):
        return (
            f"{paths.root} has ended after study.patience={patience} trials without a better one; {to_go} "
            f"to go. More: sweep resume {root} study.patience={2 * patience}"
        )
    return None


def read_status(root: Path) -> Status:
    """The state of the study in `root`; see `study_status`."""
    paths, cfg = open_study(root)
    config, space = checked(cfg)
    if not study_exists(config, paths):
        raise InputError(
            f"The launch of {paths.root} was interrupted before its first trial: "
            f"sweep resume {quoted(paths.root)}"
        )
    return state_of(load_study(config, paths), config, paths, space)


def _run(
    config: SweepConfig,
    space: SearchSpace,
    paths: StudyPaths,
    study: Study,
    launcher: LocalLauncher,
    machine: Machine,
    card: DataCard,
    console: Console,
) -> int:
    total = effective_trials(config, space)
    weights = launcher.call("sweep.model:weights_size", config.model)
    devices = choose_devices(machine, config.launcher, total, weights)
    pool = DevicePool(devices, config.launcher.devices_per_trial, config.launcher.trials_per_device)
    introduce(config, space, paths, pool, card, total, console)
    driver = Driver(config, paths, study, launcher, pool, total, Monitor(console))
    code = driver.run()
    status = study_status(study, config, paths, space, total)
    summarise(status, card, paths, console)
    if code == 0 and not status["remaining"] and status["best"] is None:
        raise SweepError(
            f"No trial of {paths.root} was completed; the reasons are above and in "
            f"sweep status {quoted(paths.root)}"
        )
    return code
