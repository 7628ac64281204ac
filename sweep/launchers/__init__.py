"""What starts the ranks of an attempt: one small interface, one module per kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from sweep.devices import Device
from sweep.events import Event


class Group(Protocol):
    """The running ranks of one attempt."""

    devices: tuple[Device, ...]

    def waitables(self) -> list[Any]:
        """What `multiprocessing.connection.wait` may wait for: news or a rank's end."""

    def events(self) -> list[Event]:
        """What the ranks have said since the last call."""

    def exit_codes(self) -> list[int | None]:
        """Per rank: its exit code (negative: killed by that signal), None while it runs."""

    def pause(self) -> None:
        """Ask the ranks to stop at the end of their epoch."""

    def kill(self) -> None:
        """End all ranks now and wait until they are gone."""

    def close(self) -> None:
        """Forget the group once all ranks ended."""


class Launcher(Protocol):
    """Starts groups, and runs single calls in a warm process of their own."""

    def call(self, function: str, *arguments: Any) -> Any:
        """Run "module:function" in a fresh warm process; its result or SweepError comes back."""

    def start(self, study_dir: Path, attempt: str, devices: tuple[Device, ...]) -> Group:
        """Start one rank per device."""
