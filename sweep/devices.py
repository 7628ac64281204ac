"""Devices: which there are, and which a study uses. A device is a GPU or a share of the cores."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sweep.errors import InputError
from sweep.schema import LauncherConfig

_GUESSED_RANKS = 8
_RANK_BYTES = 1_000_000_000  # of a rank beside its weights: libraries' own state, batches, activations
_COPIES = 4  # of the weights: themselves, gradients, two moments of Adam


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        kind: "cuda" or "cpu".
        index: its number among the devices of this machine.
        name: what a person calls it.
        key: what CUDA_VISIBLE_DEVICES takes (a GPU's UUID); empty for a CPU share.
        cores: the cores of a CPU share; empty for a GPU.
    """

    kind: str
    index: int
    name: str
    key: str = ""
    cores: tuple[int, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What this machine has: GPUs (name, UUID) as torch sees them, usable cores, bytes of memory."""

    gpus: tuple[tuple[str, str], ...]
    cores: tuple[int, ...]
    memory: int


def usable_cores() -> tuple[int, ...]:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def inspect_machine() -> Machine:
    """Look at the machine. Initialises CUDA where there is one: call it in a process of its own."""
    import torch

    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            gpus.append((str(properties.name), f"GPU-{properties.uuid}"))
    return Machine(tuple(gpus), usable_cores(), _usable_memory())


def _usable_memory() -> int:
    """Bytes of memory, or of the container's share of it."""
    limit = Path("/sys/fs/cgroup/memory.max")
    whole = int(psutil.virtual_memory().total)
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(whole, int(text)) if text.isdigit() else whole


def choose_devices(machine: Machine, launcher: LauncherConfig, trials: int, weights: int = 0) -> list[Device]:
    """The devices of a study.

    On a CPU `auto` gives every trial one core as long as there are trials for them: several trials
    side by side do more than one over several cores, whose parts wait for each other. Fewer, larger
    shares come of fewer trials than cores, and of models so large that memory would not do.

    Args:
        machine: what there is.
        launcher: what is wanted.
        trials: of the study.
        weights: bytes of the model's weights.

    Raises:
        InputError: more devices asked for than exist, or fewer than one trial needs.
    """
    kind = launcher.accelerator
    if kind == "auto":
        kind = "cuda" if machine.gpus else "cpu"
    if kind == "cuda" and not machine.gpus:
        raise InputError(
            "launcher.accelerator=cuda, but this machine has no GPU that torch can use: "
            "use launcher.accelerator=cpu, or install a CUDA build of torch."
        )
    if launcher.backend == "nccl" and kind == "cpu":
        raise InputError("launcher.backend=nccl needs GPUs: use launcher.backend=gloo.")
    available = len(machine.gpus) if kind == "cuda" else len(machine.cores)
    wanted = _wanted(launcher, kind, available, _useful_shares(machine, launcher, trials, weights))
    if launcher.devices_per_trial > len(wanted):
        raise InputError(
            f"launcher.devices_per_trial={launcher.devices_per_trial}, but the study has "
            f"{len(wanted)} devices ({available} {_unit(kind)} here): use at most {len(wanted)}."
        )
    if kind == "cuda":
        return [Device("cuda", i, f"GPU {i} ({machine.gpus[i][0]})", machine.gpus[i][1]) for i in wanted]
    if isinstance(launcher.devices, list):  # these cores, one a device, and no others
        shares: list[tuple[int, ...]] = [(machine.cores[i],) for i in wanted]
    else:
        size = available // len(wanted)
        shares = [machine.cores[n * size : (n + 1) * size] for n in range(len(wanted))]
    return [Device("cpu", n, _cpu_name(n, cores), cores=cores) for n, cores in enumerate(shares)]


def planned_ranks(launcher: LauncherConfig) -> int:
    """How many ranks will share the cores; a guess before GPUs are looked at."""
    if isinstance(launcher.devices, list):
        return max(1, len(launcher.devices))
    if isinstance(launcher.devices, int):
        return max(1, launcher.devices)
    return min(len(usable_cores()), max(_GUESSED_RANKS, launcher.devices_per_trial))


def _useful_shares(machine: Machine, launcher: LauncherConfig, trials: int, weights: int) -> int:
    """How many shares of the cores have something to do and enough memory for it."""
    rank = (_RANK_BYTES + _COPIES * weights) * launcher.trials_per_device
    wanted = min(trials * launcher.devices_per_trial, machine.memory // rank)
    return max(wanted, launcher.devices_per_trial)


def _wanted(launcher: LauncherConfig, kind: str, available: int, useful: int) -> list[int]:
    asked: Any = launcher.devices
    if asked == "auto":
        return list(range(available if kind == "cuda" else min(available, useful)))
    if isinstance(asked, int) and not isinstance(asked, bool):
        indices = list(range(asked))
    elif isinstance(asked, list) and all(isinstance(i, int) for i in asked):
        indices = list(asked)
    else:
        raise InputError(f"launcher.devices={asked!r}: use auto, a number of devices, or a list like [0,1].")
    if not indices or len(set(indices)) < len(indices):
        raise InputError(f"launcher.devices={asked!r} must name at least one device, each once.")
    missing = [i for i in indices if not 0 <= i < available]
    if missing:
        raise InputError(
            f"launcher.devices={asked!r} asks for more devices than exist: this machine has "
            f"{available} {_unit(kind)}. Use launcher.devices=auto or at most {available}."
        )
    return indices


def _unit(kind: str) -> str:
    return "GPUs" if kind == "cuda" else "cores"


def _cpu_name(number: int, cores: tuple[int, ...]) -> str:
    shown = f"core {cores[0]}" if len(cores) == 1 else f"cores {cores[0]}-{cores[-1]}"
    return f"CPU share {number} ({shown})"
