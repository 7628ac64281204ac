"""The device pool: which devices are leased to which attempt, and who comes next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sweep.devices import Device


@dataclass
class DevicePool:
    """Leases groups of different devices to attempts and takes them back.

    Attributes:
        per_trial: devices of one attempt.
        trials_per_device: how many attempts may share a device.
    """

    devices: list[Device]
    per_trial: int
    trials_per_device: int = 1
    _busy: Counter[Device] = field(init=False, default_factory=Counter)

    @property
    def slots(self) -> int:
        """How many trials run at a time."""
        return len(self.devices) * self.trials_per_device // self.per_trial

    def has_room(self) -> bool:
        """Whether another attempt could start now."""
        return len(self._room()) >= self.per_trial

    def lease(self) -> tuple[Device, ...] | None:
        """The devices of one attempt, those with the fewest trials first; None while too few have room."""
        room = self._room()
        if len(room) < self.per_trial:
            return None
        leased = tuple(sorted(room, key=lambda device: self._busy[device])[: self.per_trial])
        self._busy.update(leased)
        return leased

    def _room(self) -> list[Device]:
        return [device for device in self.devices if self._busy[device] < self.trials_per_device]

    def give_back(self, devices: tuple[Device, ...]) -> None:
        """Return what `lease` gave."""
        self._busy.subtract(devices)

    def plan(self) -> str:
        """One sentence: how the devices are used, and which they are."""
        count, slots = len(self.devices), self.slots
        shared = f", {self.trials_per_device} trials share one" if self.trials_per_device > 1 else ""
        names = ", ".join(device.name for device in self.devices)
        return (
            f"{count} device{'s' if count != 1 else ''}, {self.per_trial} per trial{shared}, "
            f"{slots} trial{'s' if slots != 1 else ''} at a time: {names}"
        )
