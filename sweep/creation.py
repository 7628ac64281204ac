"""A study comes into being: config, data, fingerprint, and last of all its storage.

The config is written first. Whatever kills a launch after that, `sweep resume` finishes the rest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from rich.console import Console

from sweep.card import write_card
from sweep.devices import Machine
from sweep.errors import InputError, SweepError
from sweep.files import write_text
from sweep.fingerprint import fingerprint, write_fingerprint
from sweep.launchers.local import LocalLauncher
from sweep.opening import checked
from sweep.paths import StudyPaths
from sweep.presence import make_certain_gone
from sweep.schema import AUTO
from sweep.storage import open_storage
from sweep.study import create_study
from sweep.warm_start import starting_points

_FILES = ("task.path", "task.validation_path", "task.test_path", "model.path")


def is_unused(paths: StudyPaths) -> bool:
    """Whether a new study may be made here: nothing is there, or only what a killed launch left."""
    traces = {paths.lock.name, paths.driver.name, paths.processes.name, f".{paths.config.name}.new"}
    traces |= {f".{paths.driver.name}.new"}
    return not paths.root.exists() or {p.name for p in paths.root.iterdir()} <= traces


def make_folder(root: Path) -> Path:
    """Make the study's folder; returns the topmost folder that was not there before.

    Raises:
        InputError: it cannot be written.
    """
    made = next((p for p in [*reversed(root.parents), root] if not p.exists()), root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise InputError(
            f"The folder {root} cannot be written ({error.strerror}): "
            "set study.output_dir to a folder that can."
        ) from None
    return made


@contextlib.contextmanager
def removed_unless_ready(root: Path, made: Path) -> Iterator[Callable[[], None]]:
    """Whatever fails before the yielded function is called leaves nothing of `root` behind.

    The caller holds the study's lock, or it might remove what another launch has made.
    """
    done: list[bool] = []
    try:
        yield lambda: done.append(True)
    except BaseException:
        if not done:
            shutil.rmtree(root, ignore_errors=True)
            with contextlib.suppress(OSError):  # another study lives there by now
                for parent in root.parents:
                    if not parent.is_relative_to(made):
                        break
                    parent.rmdir()
        raise


def save_config(cfg: DictConfig, paths: StudyPaths) -> None:
    """Keep the study's config, with files by their whole paths: a resume may come from elsewhere."""
    whole = cfg.copy()
    OmegaConf.set_struct(whole, False)
    for path in _FILES:
        value = OmegaConf.select(whole, path, throw_on_missing=False)
        if isinstance(value, str) and Path(value).expanduser().exists():
            OmegaConf.update(whole, path, str(Path(value).expanduser().resolve()))
    write_text(paths.config, OmegaConf.to_yaml(whole))


def _with_precision(cfg: DictConfig, bf16: bool) -> DictConfig:
    """`cfg` with `bf16` in the place of `trainer.bf16=auto`."""
    if cfg.trainer.get("bf16") != AUTO:
        return cfg
    settled = cfg.copy()
    settled.trainer.bf16 = bf16
    return settled


def create(
    cfg: DictConfig, paths: StudyPaths, launcher: LocalLauncher, console: Console
) -> tuple[Machine, Study]:
    """Check everything, prepare the data and create the study; again from the start if need be.

    Raises:
        InputError: settings, data or a model that cannot be used.
    """
    config, space = checked(cfg, inputs=True)
    first = starting_points(config, space)
    if config.storage.url is not None:  # better now than after the data are prepared
        open_storage(config, paths).engine.dispose()
    make_certain_gone(paths)
    if paths.trials.exists():
        raise SweepError(
            f"{paths.root} has trials but {paths.database.name} is gone, which remembers them: "
            "put it back, or launch a new study under another name."
        )
    with console.status("Checking the config; importing torch and transformers …"):
        machine: Machine = launcher.call("sweep.prepare:check_study", _with_precision(cfg, False))
    with console.status("Reading, splitting and tokenising the data …"):
        shutil.rmtree(paths.data, ignore_errors=True)
        card, model = launcher.call("sweep.prepare:prepare_study", cfg, paths)
    if cfg.trainer.get("bf16") == AUTO:
        with console.status("Measuring bf16 against fp32 …"):
            found = launcher.call("sweep.precision:measure_precision", paths)
        console.print(f"[bold]precision[/] {found}", highlight=False, soft_wrap=True)
        cfg = _with_precision(cfg, found.bf16)
        save_config(cfg, paths)
        config, space = checked(cfg)
    write_fingerprint(fingerprint(config, space, model), paths)
    write_card(card, paths)
    return machine, create_study(config, paths, first)
