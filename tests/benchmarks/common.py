"""What the benchmarks share: a study run in this process, its events with the time of their arrival."""

from __future__ import annotations

import io
import time
from pathlib import Path
from unittest import mock

from rich.console import Console

from sweep import commands
from sweep.compose import compose
from sweep.events import Event
from sweep.monitor import Monitor

Timeline = list[tuple[float, Event]]


def recorded(overrides: list[str], folder: Path) -> Timeline:
    """Run a sweep below `folder` through the real driver; its events and their seconds (monotonic)."""
    timeline: Timeline = []

    class Recorder(Monitor):
        def on_event(self, event: Event) -> None:
            timeline.append((time.monotonic(), event))
            super().on_event(event)

    output = io.StringIO()
    with mock.patch.object(commands, "Monitor", Recorder):
        code = commands.launch(
            compose([*overrides, f"study.output_dir='{folder}'"]), Console(file=output, width=200)
        )
    if code:
        raise RuntimeError(output.getvalue())
    return timeline
