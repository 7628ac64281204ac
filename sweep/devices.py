"""Devices: which there are, and how trials share them. A device is a GPU or a share of the cores."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from sweep.config import LauncherConfig
from sweep.errors import InputError

_MAX_CPU_SHARES = 8


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
    """What this machine has: GPUs (name, UUID) as torch sees them, and the usable cores."""

    gpus: tuple[tuple[str, str], ...]
    cores: tuple[int, ...]


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
    return Machine(tuple(gpus), usable_cores())


def choose_devices(machine: Machine, launcher: LauncherConfig) -> list[Device]:
    """The devices of a study.

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
    wanted = _wanted(launcher, kind, available)
    if launcher.devices_per_trial > len(wanted):
        raise InputError(
            f"launcher.devices_per_trial={launcher.devices_per_trial}, but the study has "
            f"{len(wanted)} devices ({available} {_unit(kind)} here): use at most {len(wanted)}."
        )
    if kind == "cuda":
        return [Device("cuda", i, f"GPU {i} ({machine.gpus[i][0]})", machine.gpus[i][1]) for i in wanted]
    share = available // len(wanted)
    return [
        Device("cpu", n, _cpu_name(n, cores), cores=cores)
        for n in range(len(wanted))
        for cores in [machine.cores[n * share : (n + 1) * share]]
    ]


def planned_ranks(launcher: LauncherConfig) -> int:
    """How many ranks will share the cores; a guess before GPUs are looked at."""
    if isinstance(launcher.devices, list):
        return max(1, len(launcher.devices))
    if isinstance(launcher.devices, int):
        return max(1, launcher.devices)
    return min(len(usable_cores()), max(_MAX_CPU_SHARES, launcher.devices_per_trial))


def _wanted(launcher: LauncherConfig, kind: str, available: int) -> list[int]:
    asked: Any = launcher.devices
    if asked == "auto":
        if kind == "cuda":
            return list(range(available))
        return list(range(min(available, max(_MAX_CPU_SHARES, launcher.devices_per_trial))))
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


@dataclass
class DevicePool:
    """Leases disjoint groups of devices to attempts and takes them back."""

    devices: list[Device]
    per_trial: int
    free: list[Device] = field(init=False)

    def __post_init__(self) -> None:
        self.free = list(self.devices)

    @property
    def slots(self) -> int:
        """How many trials run at a time."""
        return len(self.devices) // self.per_trial

    def has_room(self) -> bool:
        """Whether another attempt could start now."""
        return len(self.free) >= self.per_trial

    def lease(self) -> tuple[Device, ...] | None:
        """The devices of one attempt, or None while too few are free."""
        if not self.has_room():
            return None
        leased, self.free = self.free[: self.per_trial], self.free[self.per_trial :]
        return tuple(leased)

    def give_back(self, devices: tuple[Device, ...]) -> None:
        """Return what `lease` gave."""
        self.free = sorted([*self.free, *devices], key=lambda d: d.index)

    def plan(self) -> str:
        """One sentence: which devices there are and how they are used."""
        names = ", ".join(device.name for device in self.devices)
        count = len(self.devices)
        return (
            f"{count} device{'s' if count != 1 else ''}: {names}; {self.per_trial} per trial, "
            f"{self.slots} trial{'s' if self.slots != 1 else ''} at a time"
        )
